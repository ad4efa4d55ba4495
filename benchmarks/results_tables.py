"""The tables of docs/results.md, in Markdown, from the records."""

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from attcli.records import files
from attcli.records.model import Published, Score

Records = dict[str, dict[str, Any]]

METHODS = ("mtt", "ftd", "datm", "att", "att+datm")
BASELINES = ("random", "herding", "k-center", "forgetting")
SHOWN = {"digits": "digits", "cifar10": "CIFAR-10", "convnet": "ConvNet", "vgg11": "VGG11"}
"""How names of datasets and networks stand in the page."""

COMBINATIONS = 25
"""The combinations of learning rates in the test of stability."""


def shown(name: str) -> str:
    """A dataset's or network's name as the page has it."""
    return SHOWN.get(name, name)


def table(heading: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""

    def line(cells: Iterable[str]) -> str:
        return "".join(("|", *(f" {cell} |" if cell else " |" for cell in cells)))

    names = list(heading)
    return "\n".join((line(names), f"|{'---|' * len(names)}", *map(line, rows)))


def number(mean: float, *spreads: float | None) -> str:
    """A mean, with the spreads that are known in brackets."""
    known = [f"{spread:.1f}" for spread in spreads if spread is not None]
    return f"{mean:.1f} ({', '.join(known)})" if known else f"{mean:.1f}"


class Column(NamedTuple):
    """One record of a matrix: its dataset, images per class and network, and the scores in it."""

    dataset: str
    ipc: int
    arch: str
    results: dict[str, Any]

    @property
    def title(self) -> str:
        """What stands above the column."""
        return f"{shown(self.dataset)} {self.ipc}, {shown(self.arch)}"


def _columns(records: Records, part: str) -> list[Column]:
    """The records whose name has that part, by dataset (digits first), images per class and network."""
    columns = [
        Column(record["about"]["dataset"], record["about"]["ipc"], arch, results)
        for name, record in records.items()
        if part in name
        for arch, results in record["results"].items()
    ]
    return sorted(columns, key=lambda column: (column.dataset != "digits", *column[:3]))


def methods(records: Records) -> str:
    """Every method by every record of a matrix; in brackets the spread over networks and that over distillations."""

    def cell(column: Column, row: str, kind: str) -> str:
        entry = column.results[row][kind]
        return number(entry["mean"], entry["sd_networks"], entry["sd_distillations"])

    columns = _columns(records, "-methods")
    rows = [["random real images", *(cell(column, "random", "real") for column in columns)]]
    rows += [[f"`{method}`", *(cell(column, method, "synthetic") for column in columns)] for method in METHODS]
    return table(["", *(column.title for column in columns)], rows)


def baselines(records: Records) -> str:
    """Coresets and all training images beside two methods, for ConvNets; in brackets the spread over seeds."""
    columns = _columns(records, "-baselines")
    distilled = {(c.dataset, c.ipc): c.results for c in _columns(records, "-methods") if c.arch == "convnet"}

    def title(column: Column) -> str:
        excerpt = ", 500 images per class," if column.dataset == "cifar10" else ""
        return f"{shown(column.dataset)}{excerpt} {column.ipc}"

    def of_baseline(name: str) -> list[str]:
        return [number(c.results[name]["mean"], c.results[name]["sd_seeds"]) for c in columns]

    def of_method(name: str) -> list[str]:
        entries = [distilled[column.dataset, column.ipc][name]["synthetic"] for column in columns]
        return [number(entry["mean"], entry["sd_distillations"]) for entry in entries]

    rows = [["random real images" if name == "random" else name, *of_baseline(name)] for name in BASELINES]
    rows += [[f"`{name}` (three networks for each seed)", *of_method(name)] for name in ("mtt", "att")]
    rows.append(["all training images (`whole`)", *of_baseline("whole")])
    return table(["trained on", *map(title, columns)], rows)


class Run(NamedTuple):
    """A distillation scored on one network: where its record is, what it was, and its scores by the three rules."""

    file: str
    title: str
    dataset: str
    size: tuple[int, float | None, float | None]
    """Images per class, bytes per class, float32 images per class."""
    iterations: int
    arch: str
    last: dict[str, Score]
    selected: dict[str, Score] | None = None
    largest: dict[str, Score] | None = None
    published: list[Published] | None = None


def _runs_of_old_form(records: Records) -> Iterator[Run]:
    """Scores as `attcli evaluate` wrote them, in records from before those of runs had a form."""
    for name, record in records.items():
        reports = record.get("runs", [record] if "scores" in record else [])
        for report in (report for report in reports if "set" in report):
            about = report["set"]
            title = f"{name}, seed {about['seed']}" if len(reports) > 1 else name
            size = (about["ipc"], None, None)
            for arch, kinds in report["scores"].items():
                last = {kind: Score(**entry) for kind, entry in kinds.items()}
                yield Run(f"{name}.json", title, about["dataset"], size, about["iteration"], arch, last)


def _runs(folder: Path) -> Iterator[Run]:
    """The records of runs."""
    for record in files.read_all(folder):
        size = (record.size.images_per_class, record.size.bytes_per_class, record.size.float32_ipc)
        for arch, scores in record.scores.items():
            rules = (scores.last, scores.selected, scores.largest)
            published = record.published if arch == "convnet" else None
            file = f"runs/{record.name}.json"
            yield Run(file, record.name, record.dataset, size, record.iterations, arch, *rules, published)


def runs(records: Records, folder: Path) -> str:
    """A row for each distillation and network."""
    every = sorted([*_runs_of_old_form(records), *_runs(folder)], key=lambda run: (run.dataset != "digits", run.title))
    heading = ["run", "dataset", "images per class", "bytes per class", "float32 ipc", "iterations", "network"]
    heading += ["synthetic", "ema", "selected", "largest", "random", "published"]
    return table(heading, map(_row, every))


def _row(run: Run) -> list[str]:
    images, size, float32 = run.size
    values = [f"{number(value.accuracy, value.sd)}, `{value.method}`" for value in run.published or []]
    return [
        f"[{run.title}](../benchmarks/records/{run.file})",
        shown(run.dataset),
        f"{images:,}",
        "–" if size is None else f"{size:,.0f}",
        "–" if float32 is None else f"{float32:.2f}",
        f"{run.iterations:,}",
        shown(run.arch),
        *(_score(run.last, kind) for kind in ("synthetic", "ema")),
        *("–" if rule is None else f"{_score(rule, 'synthetic')} / {_score(rule, 'ema')}" for rule in run[7:9]),
        _score(run.last, "random"),
        "; ".join(values) or "–",
    ]


def _score(scores: dict[str, Score], kind: str) -> str:
    return number(scores[kind].mean, scores[kind].sd) if kind in scores else "–"


def trials(records: Records) -> str:
    """Runs of a few minutes on other datasets."""
    rows = [row for name, record in records.items() if "-trials-" in name for row in record["rows"]]
    heading = ["dataset", "CPU seconds of all stages", "synthetic", "ema", "random"]
    return table(
        heading,
        (
            [
                row["dataset"],
                f"{sum(stage['cpu_s'] for stage in row['stages']):.0f}",
                *(f"{row['accuracy_percent']['convnet'][kind]:.1f}" for kind in ("synthetic", "ema", "random")),
            ]
            for row in rows
        ),
    )


def coded(records: Records) -> str:
    """What a set is made of: a row for each variant, the most accurate first, with its size and accuracies."""
    rows = [row for name, record in records.items() if name.endswith("-coded") for row in record["rows"].items()]
    rows.sort(key=lambda entry: -entry[1]["scores"]["convnet"]["synthetic"]["mean"])
    about = ["made of", "image learning rate", "images per class", "bytes per class"]
    heading = [*about, "ConvNet", "ConvNet, ema", "VGG11", "AlexNet", "real, kept alike", "real, WebP"]

    def cells(name: str, row: dict[str, Any]) -> list[str]:
        return [
            _made_of(name),
            f"{row['settings']['distill.lr_img']:g}",
            str(row["images_per_class"]),
            f"{row['bytes_per_class']:,.0f}",
            *(_score(_scores(row, arch), kind) for arch, kind in CODED_SCORES),
        ]

    return table(heading, (cells(name, row) for name, row in rows))


CODED_SCORES = (
    ("convnet", "synthetic"),
    ("convnet", "ema"),
    ("vgg11", "synthetic"),
    ("alexnet", "synthetic"),
    ("convnet", "random-kept"),
    ("convnet", "random-webp"),
)
"""Which network scores what in the table of what a set is made of, a column each."""


def _scores(row: dict[str, Any], arch: str) -> dict[str, Score]:
    """The scores of a row by a network, by kind; none where it did not score the set.

    Random real images that are kept as pixels in float32 are whole ones, which are scored as `random`.
    """
    scores = {kind: Score(**score) for kind, score in row["scores"].get(arch, {}).items()}
    return scores if "random-kept" in scores or "random" not in scores else {**scores, "random-kept": scores["random"]}


def _made_of(variant: str) -> str:
    """A variant's name, with the storage where it is the usual one."""
    parameterisation, *others = (part for part in variant.split(", ") if not part.startswith("rate "))
    usual = [] if {*others} & {"float16", "uint8", "4 bits", "2 bits"} else ["float32"]
    return ", ".join([parameterisation, *usual, *others])


def coded_tuning(records: Records) -> str:
    """What was tried on validation images: a row for each, with a ConvNet's accuracy."""
    rows = [
        (name, row["scores"]["convnet"])
        for record_name, record in records.items()
        if record_name.endswith("-coded")
        for name, row in record["tuning"]["rows"].items()
    ]
    kinds = ("synthetic", "ema")
    return table(
        ["tried", *kinds],
        ([name, *(f"{scores[k]['mean']:.1f} ({scores[k]['sd']:.1f})" for k in kinds)] for name, scores in rows),
    )


def amp(records: Records) -> str:
    """How far students pass the target, a line for each method."""
    record = next(record for name, record in reversed(records.items()) if "-amp" in name)
    steps = record["shared"]["distill.syn_steps"]
    lines = [f"| method | nearest step of {steps}, on average | distance there | distance after step {steps} |"]
    lines.append("|---|---|---|---|")
    for method, found in record["methods"].items():
        nearest, along = found["nearest_step"], found["distance"]
        late = nearest[len(nearest) // 2 :]
        lines.append(f"| {method.upper()} | {sum(late) / len(late):.0f} | {min(along):.2f} | {along[-1]:.2f} |")
    return "\n".join(lines)


def field(records: Records) -> dict[str, str]:
    """The methods of the field: a table for each problem, by marker; in brackets the spread over distillations."""
    tables = {}
    for name, record in records.items():
        if "-field-" not in name:
            continue
        problem = record["about"]["settings"]
        excerpt = ", 500 images per class" if "prepare.limit_per_class" in problem else ""
        images = "one image" if problem["distill.ipc"] == 1 else f"{problem['distill.ipc']} images"
        heading = f"### {shown(problem['prepare.dataset'])}{excerpt}: the bytes of {images} per class"
        tables[f"field {record['about']['problem']}"] = f"{heading}\n\n{_field(record['rows'])}"
    return tables


def _field(rows: dict[str, Any]) -> str:
    """The table of one problem: real images first, then a row for each method in the order of the record."""
    heading = ["", "iterations", "images per class", "sets", "ConvNet", "ConvNet, ema", "VGG11"]
    heading += ["CPU seconds", "memory, MB"]

    def cells(scores: dict[str, Any], kinds: Iterable[tuple[str, str]]) -> list[str]:
        found = [scores[arch].get(kind) for arch, kind in kinds]
        return [number(entry["mean"], entry["sd_distillations"]) if entry else "–" for entry in found]

    beside = [row for row in rows.values() if "random" in row["scores"]["convnet"]][:1]
    lines = []
    for row, name in product(beside, ("random", "herding")):
        convnet, vgg11 = (cells(row["scores"], [(arch, name)]) for arch in ("convnet", "vgg11"))
        sets = str(row["distillations"])
        lines.append([f"{name} real images", "–", "–", sets, *convnet, "–", *vgg11, "–", "–"])
    for name, row in rows.items():
        kinds = [("convnet", "synthetic"), ("convnet", "ema"), ("vgg11", "synthetic")]
        sizes = [f"{row['iterations']:,}", f"{row['images_per_class']:,}", str(row["distillations"])]
        effort = [f"{row['cpu_s']:,.0f}", f"{row['memory_mb']:,.0f}"]
        method, *after = name.split(" after ")
        title = f"`{method}`" + "".join(f" after `{first}`" for first in after)
        lines.append([title, *sizes, *cells(row["scores"], kinds), *effort])
    return table(heading, lines)


def phases(records: Records) -> dict[str, str]:
    """What each phase of a long distillation gains: for each record, by marker, a line for each snapshot scored."""
    return {f"phases {name}": _phases(record) for name, record in records.items() if "-phases" in name}


def _phases(record: dict[str, Any]) -> str:
    archs = record["scoring"]["evaluate.archs"].split(",")
    rows, before = [], 0
    for phase in record["phases"]:
        for iteration, scores in sorted(phase["scores"].items(), key=lambda entry: int(entry[0])):
            cells = [number(scores[arch]["mean"], scores[arch]["sd"]) for arch in archs]
            rows.append([phase["settings"]["objective"], iteration, str(before + int(iteration)), *cells])
        before += phase["iterations"]
    return table(["objective", "iteration of the phase", "of all", *map(shown, archs)], rows)


def stability(records: Records) -> dict[str, str]:
    """The numbers that the page tells of the stability test, by marker."""
    record = records[max(name for name in records if "-stability" in name)]  # the latest one
    texts = {}
    for method, result in record["results"].items():
        reached = {rates: accuracy for rates, accuracy in result["accuracy"].items() if accuracy is not None}
        fast = [accuracy for rates, accuracy in reached.items() if rates.endswith("/10")]
        texts[f"{method} near best"] = f"{round(result['share'] * COMBINATIONS)} of {COMBINATIONS}"
        texts[f"{method} lowest"] = f"{int(min(reached.values()))}" if reached else "-"
        texts[f"{method} fast"] = f"{min(fast):.0f} to {max(fast):.0f}" if fast else "-"
    return texts
