"""The page of one run: its data in words and tables, put into the templates. All text of files is escaped."""

import base64
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from attcli import __version__
from attcli.errors import one_line
from attcli.records.model import Score
from attcli.report import words
from attcli.report.looks import Drawn
from attcli.report.model import Facts, Setting
from attcli.report.plots import PUBLISHED_FOR

SMOOTH_FROM = 64
"""Pixels of a side from which on an image is enlarged smoothly."""

TITLES = {"synthetic": "last iteration", "ema": "moving average"}

STEPS = {"Student": "eager steps", "Compiled": "compiled steps", "Graphed": "CUDA graphs"}
"""How steps are executed, in words, by the names of step functions."""

RULES = {"selected": "best on validation", "largest": "largest test"}


def _shown(value: Any) -> Any:
    """What an expression of a template gives: text in one line, as it may come from a file."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def environment() -> Environment:
    """The templates, which escape whatever they are given."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    templates.globals["version"] = __version__
    templates.filters["network"] = words.network
    templates.filters["dataset"] = words.dataset
    templates.filters["svg"] = lambda content: f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
    templates.filters["value"] = lambda value: value if isinstance(value, str) else json.dumps(value)
    return templates


def of_run(facts: Facts, drawn: Mapping[str, Drawn]) -> str:
    """The page of a run with its plots, as HTML that needs nothing else."""
    values = {
        "facts": facts,
        "about": facts.about,
        "title": f"{words.dataset(facts.about.dataset)}, distilled by {facts.about.method}",
        "lead": lead(facts),
        "figures": key_figures(facts),
        "score_plots": [plot for name, plot in drawn.items() if name.startswith("scores")],
        "course_plots": [drawn[name] for name in ("loss", "step", "lr") if name in drawn],
        "history_note": _history_note(facts),
        "size_rows": size_rows(facts),
        "provenance": _provenance(facts),
        **_images(facts),
        **_scores(facts),
        **_times(facts),
        **_settings(facts),
    }
    return environment().get_template("report.html").render(values)


def lead(facts: Facts) -> str:
    """The run in a line."""
    about, size = facts.about, facts.size
    parts = [words.count(len(about.classes), "class"), f"{about.side}×{about.side} pixels"]
    if size is not None:
        parts.insert(0, words.count(size.classes * size.images_per_class, "image"))
    if (about.parameterisation, about.storage) != ("pixels", "float32"):
        parts.append(f"learned as {about.parameterisation}, kept as {about.storage}")
    parts += [f"{words.network(about.arch)}", words.count(about.iterations, "iteration")]
    return " · ".join([*parts, f"seed {about.seed}", words.day(about.date)])


def _entry(label: str, value: str, note: str = "", spread: str = "") -> dict[str, str]:
    return {"label": label, "value": value, "note": note, "spread": spread}


def _percent(label: str, score: Score, note: str) -> dict[str, str]:
    return _entry(label, f"{score.mean:.1f} %", note, "" if score.sd is None else f"± {score.sd:.1f}")


def key_figures(facts: Facts) -> list[dict[str, str]]:
    """What stands large at the top."""
    figures, about, size = [], facts.about, facts.size
    score = words.headline(facts)
    if score is not None:
        arch = about.arch if about.arch in facts.scores else next(iter(facts.scores))
        last = facts.scores[arch].last
        average = f"; moving average {last['ema'].mean:.1f}\N{NO-BREAK SPACE}%" if "ema" in last else ""
        note = f"{words.network(arch)}, {words.count(score.n, 'network')}{average}"
        figures.append(_percent("accuracy from these images", score, note))
        if "random" in last:
            note = f"{words.count(about.ipc, 'image')} per class"
            figures.append(_percent("from random real images", last["random"], note))
    else:
        figures.append(_entry("accuracy", "not scored", "attcli evaluate scores the set"))
    if size is not None:
        figures.append(_entry("images per class", f"{size.images_per_class:,}", _budget(facts)))
        if size.bytes_per_class is not None:
            per_class = f"{words.size(size.bytes_per_class)} per class"
            figures.append(_entry("size", words.size(size.bytes_per_class * size.classes), per_class))
    note = f"of {about.planned:,} that the recipe has" if about.planned and about.planned > about.iterations else ""
    figures.append(_entry("iterations", f"{about.iterations:,}", note))
    if facts.times.iterations_wall_s is not None:
        figures.append(_entry("distilled in", words.duration(facts.times.iterations_wall_s), facts.machine.gpu or ""))
    return figures


def _budget(facts: Facts) -> str:
    size = facts.size
    if size is None or size.float32_ipc is None or size.images_per_class == facts.about.ipc:
        return ""
    return f"in the bytes of {size.float32_ipc:.2f} float32 images"


def _images(facts: Facts) -> dict[str, Any]:
    """The sheets of images: one for each variant, a card for each class."""
    pictures, names = facts.pictures, facts.about.classes
    if pictures is None or not pictures.variants:
        return {"sheets": []}
    shown = len(next(iter(pictures.variants.values()))[0])
    accuracies = facts.per_class.get(facts.about.arch) or next(iter(facts.per_class.values()), {})
    sheets = []
    for variant, by_class in pictures.variants.items():
        of_class = accuracies.get(variant) or [None] * len(names)
        labels = pictures.labels or [[] for _ in names]
        entries = [
            {"name": name, "pictures": pngs, "accuracy": accuracy, "labels": label}
            for name, pngs, accuracy, label in zip(names, by_class, of_class, labels, strict=True)
        ]
        sheets.append({"title": TITLES.get(variant, variant), "classes": entries})
    across = {1: 1, 2: 2, 3: 3, 4: 2}.get(shown, -(-shown // 2) if shown <= 10 else 5 if shown <= 25 else 10)
    width = {1: 210 if len(names) <= 12 else 118 if len(names) <= 40 else 92, 2: 220, 3: 320, 4: 200}.get(
        shown, 400 if shown <= 25 else 620
    )
    return {
        "sheets": sheets,
        "across": across,
        "least": {1: 46 if len(names) <= 12 else 30, 2: 46, 4: 46}.get(shown, 100),
        "class_width": width,
        "side": pictures.side,
        "pixels": pictures.side < SMOOTH_FROM,
        "images_note": _images_note(facts, shown, bool(accuracies)),
    }


def _images_note(facts: Facts, shown: int, has_accuracies: bool) -> str:
    pictures = facts.pictures
    assert pictures is not None
    sentences = []
    if shown < pictures.per_class:
        sentences.append(f"The first {shown} of {pictures.per_class:,} images of each class are shown.")
    if pictures.shrunk > 1:
        sentences.append(f"They are shown at {pictures.side}×{pictures.side} pixels, to keep this page small.")
    if pictures.as_networks_see_them:
        sentences.append("They are shown as networks see them, each stretched to all shades.")
    if pictures.own_share is not None:
        sentences.append(
            f"Labels are learned: on average {pictures.own_share:.0f} % of an image's label is its own class; "
            "an image's tooltip names its likeliest classes."
        )
    if has_accuracies:
        sentences.append("The number beside a class is the accuracy on its test images.")
    return " ".join(sentences)


def _scores(facts: Facts) -> dict[str, Any]:
    """The table of scores: a row for each thing that was trained on, by each rule, and for each published value."""
    colours = {"synthetic": "own", "ema": "average"}
    archs = list(facts.scores)
    kinds = dict.fromkeys(kind for scores in facts.scores.values() for kind in scores.last)
    rows = [_row(facts, "last", kind, words.kind(kind), colours.get(kind, "")) for kind in kinds]
    for rule, says in RULES.items():
        learned = [kind for kind in colours if any(kind in (getattr(s, rule) or {}) for s in facts.scores.values())]
        rows += [_row(facts, rule, kind, f"{words.kind(kind)}, {says}", colours[kind]) for kind in learned]
    has_rules = len(rows) > len(kinds)
    has_published = PUBLISHED_FOR in archs
    for value in facts.published if has_published else ():
        spread = "" if value.sd is None else f" ± {value.sd:.1f}"
        cells = [f"{value.accuracy:.1f}{spread}" if arch == PUBLISHED_FOR else "–" for arch in archs]
        rows.append({"label": f"published: {value.method}", "cells": cells, "colour": "published"})
    return {
        "archs": archs,
        "score_rows": rows,
        "has_rules": has_rules,
        "has_published": has_published,
        "protocol_note": _protocol_note(facts.protocol),
    }


def _protocol_note(protocol: Mapping[str, Any]) -> str:
    """How the networks were trained and tested; what is no number in the scores' file is left out."""
    numbers = {name: value for name, value in protocol.items() if isinstance(value, int | float)}
    epochs = f", trained for {words.count(numbers['epochs'], 'epoch')}" if "epochs" in numbers else ""
    says = [f"Fresh networks{epochs}"]
    if "lr" in numbers:
        says.append(f"learning rate {numbers['lr']:.3g}")
    if "test_images" in numbers:
        says.append(f"tested on {words.count(numbers['test_images'], 'real image')}")
    if "name" in protocol:
        says.append(f"protocol “{protocol['name']}”")
    return f"{', '.join(says)}."


def _row(facts: Facts, rule: str, kind: str, label: str, colour: str) -> dict[str, Any]:
    entries = [(getattr(scores, rule) or {}).get(kind) for scores in facts.scores.values()]
    return {"label": label, "cells": [words.accuracy(e) if e else "–" for e in entries], "colour": colour}


def _history_note(facts: Facts) -> str:
    history, experts = facts.history, facts.experts
    if history is None:
        return ""
    sentences = []
    if experts is not None:
        sentences.append(
            f"From {words.count(experts.experts, 'expert')}, trained for {words.count(experts.epochs, 'epoch')} in all."
        )
    if history.not_accepted:
        sentences.append(f"{words.count(history.not_accepted, 'update')} of {history.iterations:,} were not accepted.")
    return " ".join(sentences)


def size_rows(facts: Facts) -> list[dict[str, str]]:
    """What the set takes, beside the images that it was distilled from."""
    size, rows = facts.size, []
    if size is not None and size.bytes_per_class is not None:
        whole = size.bytes_per_class * size.classes
        rows.append(_entry("The set", words.size(whole), "what is learned, with its labels and learning rate"))
        rows.append(_entry("per class", words.size(size.bytes_per_class), f"{size.images_per_class:,} per class"))
        rows[-1]["note"] = words.count(size.images_per_class, "image")
        if size.float32_ipc is not None:
            rows.append(_entry("as float32 images", f"{size.float32_ipc:.2f} per class"))
        if facts.real is not None:
            ratio = facts.real.bytes / whole
            times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"
            note = f"{words.count(facts.real.images, 'image')}, a byte per value: {times} times the set"
            rows.append(_entry("Training images", words.size(facts.real.bytes), note))
    where = "in the set's file" if facts.normaliser.in_the_sets_file else "in a file of its own, not counted"
    rows.append(_entry("Normaliser", words.size(facts.normaliser.bytes), f"{facts.normaliser.kind}, {where}"))
    rows.append(_entry("The file", words.size(facts.file_bytes), "with both variants and the header"))
    return rows


def _times(facts: Facts) -> dict[str, Any]:
    rows = []
    for stage in ("prepare", "buffer", "distill", "evaluate"):
        time = getattr(facts.times, stage)
        if time is not None:
            wall, cpu = words.duration(time.wall_s), words.duration(time.cpu_s)
            rows.append({"stage": stage, "wall": wall, "cpu": cpu, "runs": f"{time.invocations:,}"})
    notes, history, machine = [], facts.history, facts.machine
    if facts.times.iterations_wall_s is not None:
        median = f", {words.duration(history.seconds)} each (median)" if history and history.seconds else ""
        notes.append(f"All iterations together: {words.duration(facts.times.iterations_wall_s)}{median}.")
    threads = words.count(machine.threads, "thread") if machine.threads else None
    on = [part for part in (machine.gpu, machine.cpu, threads, machine.steps and STEPS.get(machine.steps)) if part]
    if on:
        notes.append(f"Distilled on {', '.join(on)}.")
    return {"time_rows": rows, "time_notes": notes}


def _settings(facts: Facts) -> dict[str, Any]:
    """The settings that differ from the usual ones, and all others by section."""
    differing = [entry for entry in facts.settings if entry.differs]
    sections: dict[str, list[Setting]] = {}
    for entry in facts.settings:
        if not entry.differs:
            sections.setdefault(entry.name.partition(".")[0], []).append(entry)
    base = f"the recipe {facts.recipe}" if facts.recipe else "the method's choices and the defaults"
    if differing:
        verb = "differs" if len(differing) == 1 else "differ"
        note = f"{words.count(len(differing), 'setting')} of this run {verb} from {base}; the others are below."
    else:
        note = f"All settings are those of {base}."
    entries = [{"name": name, "entries": found} for name, found in sections.items()]
    return {"differing": differing, "sections": entries, "settings_note": note}


def _provenance(facts: Facts) -> str:
    commits = f" ({', '.join(facts.code.commits)})" if facts.code.commits else ""
    return f"Made by attcli {__version__}; the set was distilled with attcli {facts.code.version}{commits}."
