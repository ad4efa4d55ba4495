"""--dry-run: what a command would run, what exists already, and about how much disk, memory and time the rest needs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from attcli import baselines, coding, execution, registry
from attcli.errors import MissingError, UserError
from attcli.networks import Architecture
from attcli.options import VARIANTS, WHITENING, DatasetInfo
from attcli.progress import duration
from attcli.scoring.protocol import Protocol, protocol_of
from attcli.scoring.scorer import Case, is_coreset, is_entire, result_key, spec_by_name
from attcli.settings import Settings
from attcli.settings.choices import idle
from attcli.stages import cost, evaluation, facts, identity, inputs, kept, of_a_set, pipeline
from attcli.stages.cost import Cost, size_in_words
from attcli.stages.plan import Plan, total
from attcli.stages.rates import Rates
from attcli.stages.run import Run, differences
from attcli.store import artefact, dataset, states, synthetic

ORDER = ("prepare", "buffer", "distill", "evaluate")
TOLD_MEMORY = 1e8
"""Less memory than so many bytes is not worth a word."""


@dataclass(frozen=True)
class Target:
    """What evaluate is asked to score: the results' own set, the set in a file, or the snapshots."""

    file: Path | None = None
    snapshots: bool = False
    literature: bool = False


def forecast(run: Run, stages: Iterable[str], target: Target | None = None) -> str:
    """A line for each stage, one for all together, and one that says what the times rest on; nothing is made."""
    target, stages = target or Target(), tuple(stages)
    run = _as_scored(run, stages, target)
    lines, to_do, seconds = [], {}, 0.0
    rates = Rates(run.settings)
    for stage, plan in _plans(run, stages, target).items():
        words = plan.words
        if plan.cost:
            to_do[stage] = plan
        if plan.cost:
            taken = rates.seconds(plan.cost)
            seconds += taken or 0.0
            words += "; how long it takes is not estimated" if taken is None else f", about {duration(taken)}"
        if plan.cost and plan.cost.memory > TOLD_MEMORY:
            words += f", about {plan.cost.memory / 1e9:.1f} GB of memory"
        lines.append(f"{stage:9} {words}")
    if to_do:
        lines.append(f"{'total':9} {total(run, to_do, seconds)}")
    if counted := sum(plan.cost.operations for plan in to_do.values() if plan.cost):
        lines.append(f"{'times':9} {counted:.1e} floating-point operations {rates.said()}")
    return "\n".join(lines)


def needs(run: Run, stages: Iterable[str], target: Target | None = None) -> str:
    """Disk, memory and time of all stages together, as the total of `forecast`; nothing where all is done."""
    target, stages = target or Target(), tuple(stages)
    run = _as_scored(run, stages, target)
    rates = Rates(run.settings)
    to_do = {stage: plan for stage, plan in _plans(run, stages, target).items() if plan.cost}
    seconds = sum(rates.seconds(plan.cost) or 0.0 for plan in to_do.values() if plan.cost)
    return total(run, to_do, seconds) if to_do else ""


def _as_scored(run: Run, stages: tuple[str, ...], target: Target) -> Run:
    """The run with the settings of the set that is scored, where there is one already."""
    scored = scored_file(run, "evaluate", target) if "evaluate" in stages and "distill" not in stages else None
    return of_a_set.as_distilled(run, scored, target.file) if scored and not target.snapshots else run


def _plans(run: Run, stages: Iterable[str], target: Target) -> dict[str, Plan]:
    """What each stage would do."""
    plans = {"prepare": _prepare, "buffer": _buffer, "distill": _distill}
    return {stage: _evaluate(run, target) if stage == "evaluate" else plans[stage](run) for stage in stages}


def stages_of(run: Run, command: str, target: Target | None = None) -> tuple[str, ...]:
    """The stages that a command goes through, which for evaluate depends on what exists."""
    if not run.auto:
        return (command,)
    if command == "evaluate" and target and (target.file or target.snapshots):
        return ("evaluate",) if run.dataset.exists() or target.snapshots else ("prepare", "evaluate")
    if command == "evaluate" and run.synthetic.exists() and not pipeline.goes_on(run):
        return ("evaluate",) if run.dataset.exists() else ("prepare", "evaluate")
    stages = ORDER[: ORDER.index(command) + 1]
    return tuple(stage for stage in stages if stage != "buffer" or command == "buffer" or run.settings.reads_experts)


def scored_file(run: Run, command: str, target: Target | None = None) -> Path | None:
    """The file of the set that a command scores, or of the last snapshot; None where there is none yet."""
    if command != "evaluate":
        return None
    if target and target.snapshots:
        return next(reversed(states.snapshots(run.snapshots)), None)
    path = (target and target.file) or run.synthetic
    return path if path.is_file() else None


def networks_of(run: Run, command: str, target: Target | None = None) -> list[Architecture]:
    """The networks that a command trains: the experts' and students', or those that a set is scored with."""
    settings = run.settings
    about = cost.images_about(settings)
    if command != "evaluate":
        return [inputs.architecture(settings.network, about)]
    spec = settings.network.model_dump()
    if path := scored_file(run, command, target):
        kind = states.KIND if artefact.kind_of(path) == states.KIND else synthetic.KIND
        about = artefact.header(path, kind, synthetic.MAKER).about
        spec = about["network"]
    specs = [spec if arch == spec["arch"] else {"arch": arch} for arch in settings.evaluate.archs]
    return [Architecture.of(own, about) for own in specs]


def _overwriting(run: Run, other: artefact.Header | None) -> str:
    if not other:
        return ""
    if run.force:
        return ", overwriting the one with other settings"
    return ", BUT one with other settings is there (--force overwrites it, --artifacts DIR writes elsewhere)"


def _prepare(run: Run) -> Plan:
    info = facts.of(run.settings)
    values = info.channels * info.resolution**2
    copies = 2 if hasattr(registry.source(run.settings.prepare.dataset), "digest") else 1  # decoded first, then written
    matrix = 4 * values**2 if run.settings.prepare.normalise in WHITENING else 0
    disk = copies * (info.train + info.test) * values + matrix
    try:
        identity.prepare(run.settings)
    except MissingError as error:
        words = f"would make {run.dataset}, but its images are missing: {error}"
        return Plan(words, cost.prepare(run.settings), disk)
    prepared = None if run.fresh == "prepare" else kept.prepared(run)
    if prepared and prepared[0] == run.dataset:
        return Plan(f"nothing to do: {run.dataset} is there")
    other = _overwriting(run, kept.header(run.dataset, dataset.KIND))
    if prepared:
        return Plan(f"would take {run.dataset} from {prepared[0].parent}, where it is kept{other}")
    words = f"would make {run.dataset} from {info.title}{other}"
    return Plan(f"{words}: up to {size_in_words(disk)} of disk", cost.prepare(run.settings), disk)


def _buffer(run: Run) -> Plan:
    settings = run.settings
    count, epochs = settings.buffer.experts, settings.epochs
    weights = cost.parameters(inputs.architecture(settings.network, cost.images_about(settings)))
    each = execution.dtype(settings.buffer.precision).itemsize
    disk = count * (epochs + 1) * weights * each
    what = f"{count} experts of {epochs} epochs"
    if settings.buffer.waypoints is not None:
        disk += count * settings.buffer.waypoints * weights * each
        what += f", and their compact form of {settings.buffer.waypoints} networks each"
    missing = count * epochs - (0 if run.fresh == "buffer" else kept.expert_epochs(run))
    if not missing:
        return Plan(f"nothing to do: {what} ({size_in_words(disk)}) are there")
    if settings.buffer.imported:
        return Plan(f"cannot make {what}: those of {settings.buffer.imported} were imported; import their files again")
    whole = missing == count * epochs
    words = f"would train {what}" if whole else f"would train {missing} of {count * epochs} epochs, for {what}"
    needed = disk * missing / (count * epochs)
    return Plan(f"{words}: {size_in_words(needed)} of disk", cost.buffer(settings, missing), needed)


def _distill(run: Run) -> Plan:
    settings = run.settings
    info = facts.of(settings)
    wanted, every = settings.distill.iterations, settings.distill.save_every
    size, set_size = _size(settings, info)
    steps = 0 if "distill.syn_steps" in idle(settings) else settings.distill.syn_steps
    network = inputs.architecture(settings.network, cost.images_about(settings))
    remembered = coding.FLOAT32_BYTES * cost.parameters(network) if settings.remembers else 0
    disk = -(-wanted // every) * (3 * set_size + remembered) + wanted * (8 * steps + 48) * 2
    done = 0 if run.fresh == "distill" else kept.iterations(run)
    of_students = f", {steps} steps" if steps else ""
    what = f"{settings.distill.method}, ipc {settings.distill.ipc}{of_students}; {size}"
    if done == wanted:
        return Plan(f"nothing to do: {wanted} iterations ({what}) are done")
    header = kept.header(run.synthetic, synthetic.KIND)
    other = header if header and differences(header.settings, identity.distillation(settings)) else None
    words = f"would run {wanted - done} of {wanted} iterations ({what}){_overwriting(run, other)}"
    disk_words = f"up to {size_in_words(disk)} of disk with its snapshots"
    return Plan(f"{words}: {disk_words}", cost.distill(settings, wanted - done), disk)


def _size(settings: Settings, info: DatasetInfo) -> tuple[str, int]:
    """What the set costs, in words; and the bytes of its learned numbers in a saved state."""
    plan = coding.planned(settings.distill, info.channels, info.resolution)
    total = plan.counted_bytes(settings.distill.ipc, info.classes, settings.distill.labels != "hard")
    per_class = plan.images_per_class(settings.distill.ipc)
    size = coding.size(total / info.classes, info.channels, info.resolution, per_class)
    units = info.classes * per_class // plan.parameterisation.images_per_unit
    shapes = plan.parameterisation.unit(info.channels, info.resolution).values()
    state = coding.FLOAT32_BYTES * units * sum(prod(shape) for shape in shapes)
    return coding.in_words(size), state


def _evaluate(run: Run, target: Target) -> Plan:
    settings = run.settings.evaluate
    path = target.file or run.synthetic
    if target.snapshots:
        return _snapshots(run, target)
    is_there = target.file or path.is_file()
    distilled = synthetic.read(path, None, of_a_set.refitted(run, path)) if is_there else None
    if distilled:
        of_a_set.check_asked(run, distilled.about, distilled.settings, path, named=target.file is not None)
        if target.file is None:
            of_a_set.tell_unfinished(run, distilled.about, distilled.settings)
        run = replace(run, settings=of_a_set.settings_of(run, distilled.about))
    choices = (distilled.about.get("coding") or coding.PLAIN) if distilled else coding.choices(run.settings.distill)
    asked = of_a_set.baselines_for(settings, choices)
    coresets = [name for name in asked if is_coreset(name)]
    rates = 1 + len(settings.random_lrs)
    learned = [name for name in VARIANTS if not distilled or name in distilled.variants]
    each = {**dict.fromkeys(learned, 1), **dict.fromkeys(coresets, rates)}
    cases = [(arch, kind, r) for arch in settings.archs for kind in each for r in range(settings.repeats)]
    scored = _kept_cases(run, distilled, cases)
    missing = [case for case in cases if case not in scored]
    counts = {arch: sum(each[kind] for name, kind, _ in missing if name == arch) for arch in settings.archs}
    left, everything = sum(counts.values()), len(settings.archs) * settings.repeats * sum(each.values())
    kinds = ", ".join(each) + (f" at {rates} learning rates" if coresets else "")
    repeats = _repeats(settings.repeats)
    what = f"{', '.join(settings.archs)}; {repeats}; {kinds}; {_protocol(run, distilled).epochs} epochs"
    whole = _trainings_on_all(run, distilled, asked)
    if not left and not whole:
        return Plan(f"nothing to do: {everything} networks ({what}) are trained and tested")
    number = f"{left} of {everything}" if left < everything else f"up to {everything}"
    words, price = f"would train {number} networks ({what})", _scoring_cost(run, distilled, counts)
    if whole:
        number_of_whole = sum(count for _, count in whole)
        words += f", and up to {number_of_whole} on all training images for {settings.whole_epochs} epochs"
        price = cost.with_whole(run.settings, price, whole)
    return Plan(words, price)


def _trainings_on_all(
    run: Run, distilled: synthetic.SyntheticSet | None, asked: Iterable[str]
) -> list[tuple[Architecture, int]]:
    """The trainings on all training images that the baselines take; which of them are kept is not looked at."""
    settings, names = run.settings.evaluate, list(asked)
    reads = {what for name in names for what in baselines.load(name).reads}
    selecting = settings.forgetting_runs if "forgotten" in reads else int(bool(reads))
    own = settings.whole_arch or run.settings.network.arch
    counts = dict.fromkeys(settings.archs, settings.repeats) if any(map(is_entire, names)) else {}
    wanted = [*counts.items(), *([(own, selecting)] if selecting else [])]
    networks = _networks(run, distilled, [arch for arch, _ in wanted])
    return [(networks[arch], count) for arch, count in wanted]


def _networks(run: Run, distilled: synthetic.SyntheticSet | None, archs: Iterable[str]) -> dict[str, Architecture]:
    """Networks by name, for the images of a set, or of one that is still to be distilled."""
    own = run.settings.network.model_dump()
    about = distilled.about if distilled else {**cost.images_about(run.settings), "network": own}
    return {arch: Architecture.of(spec_by_name(arch, about), about) for arch in archs}


def _repeats(count: int) -> str:
    return f"{count} repeat{'s' if count > 1 else ''}"


def _kept_cases(run: Run, distilled: synthetic.SyntheticSet | None, cases: list[Case]) -> set[Case]:
    """The cases whose results are kept, but for images that were selected by a training, which are not looked at."""
    header = kept.header(run.dataset, dataset.KIND)
    if not distilled or not header or run.fresh == "evaluate":
        return set()
    results = evaluation.results_of(run, distilled, "test", header).kept()
    settings = run.settings.evaluate
    protocol = of_a_set.protocol_for(run, distilled)
    lr, random_lrs = of_a_set.rates_for(settings, protocol, distilled.lr)
    coreset_lrs = (protocol.rate or distilled.lr, *random_lrs)
    drawn = [case for case in cases if case[1] in VARIANTS or not baselines.load(case[1]).reads]
    about, own_lr = distilled.about, distilled.lr
    return {case for case in drawn if result_key(case, about, lr, own_lr, coreset_lrs) in results}


def _protocol(run: Run, distilled: synthetic.SyntheticSet | None) -> Protocol:
    """The protocol of a set, or of one that is still to be distilled."""
    if distilled:
        return of_a_set.protocol_for(run, distilled)
    settings = run.settings.evaluate
    return protocol_of(settings.protocol, {}, {"epochs": settings.epochs, "batch": settings.batch})


def _scoring_cost(run: Run, distilled: synthetic.SyntheticSet | None, counts: dict[str, int]) -> Cost:
    settings: Settings = run.settings
    protocol = _protocol(run, distilled)
    if distilled:
        images = len(distilled.labels)
    else:
        info = facts.of(settings)
        images = info.classes * coding.images_per_class(settings.distill, info.channels, info.resolution)
    networks = _networks(run, distilled, counts)
    trainings = [(networks[arch], count) for arch, count in counts.items()]
    tests = -(-protocol.epochs // protocol.tests) if protocol.tests else 1
    return cost.evaluate(settings, trainings, images, protocol.batch, protocol.epochs, tests)


def _snapshots(run: Run, target: Target) -> Plan:
    """Scores of the snapshots; how many of them are kept is not looked at."""
    files, settings = states.snapshots(run.snapshots), run.settings
    if not files:
        raise UserError(f"{run.snapshots} holds no snapshots; run `{synthetic.MAKER}`")
    distilled = synthetic.read(files[-1], states.KIND)
    of_a_set.check_asked(run, distilled.about, distilled.settings, files[-1])
    run = replace(run, settings=of_a_set.settings_of(run, distilled.about))
    settings = run.settings
    validated = len(files) if settings.prepare.validation else 0
    rows = 1 + validated + min(validated, len(VARIANTS) * len(settings.evaluate.archs))
    rows += len(files) if target.literature else 0
    each = rows * len(VARIANTS) * settings.evaluate.repeats
    counts = dict.fromkeys(settings.evaluate.archs, each)
    files_in_words = f"{len(files)} snapshot{'s' if len(files) > 1 else ''}"
    what = f"{', '.join(counts)}; {_repeats(settings.evaluate.repeats)}; {_protocol(run, distilled).epochs} epochs"
    words = f"would train up to {each * len(counts)} networks for {files_in_words} ({what})"
    return Plan(words, _scoring_cost(run, distilled, counts))
