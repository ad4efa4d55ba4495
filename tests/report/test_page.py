"""The page of a run: whole, self-contained, and right for runs of every kind."""

import re
from pathlib import Path

import pytest

from attcli.report import gather, page, pictures, plots
from attcli.report.model import Facts
from tests.conftest import Cli
from tests.report import made
from tests.report.reading import Page, checked

LARGEST = 8_500_000
"""Bytes that a page may have: its pictures, its plots twice, and its words."""


def rendered(facts: Facts) -> Page:
    """The page of a run, read back; what any page must be is checked."""
    text = page.of_run(facts, plots.of_run(facts))
    assert len(text.encode()) < LARGEST
    return checked(text)


def test_the_command_writes_the_page_the_data_and_the_plots(
    copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    lines = [Path(line) for line in cli("report").splitlines()]
    names = ["report.html", "report.json"]
    names += [
        f"{plot}.{kind}" for plot in ("scores-convnet", "scores-mlp", "loss", "step", "lr") for kind in ("png", "svg")
    ]
    assert [path.name for path in lines] == names
    assert all(path.parent == Path("artifacts/report") for path in lines)
    assert sorted(path.name for path in Path("artifacts/report").iterdir()) == sorted(names)
    first = {path: path.read_bytes() for path in lines}
    checked(first[lines[0]].decode())
    cli("report")
    assert {path: path.read_bytes() for path in lines} == first  # the same data make the same bytes
    elsewhere = cli("report", "--out", "elsewhere", "--json")
    assert Facts.model_validate_json(elsewhere) == Facts.model_validate_json(Path("elsewhere/report.json").read_bytes())


def test_the_page_shows_what_the_data_are(facts: Facts) -> None:
    read = rendered(facts)
    last = facts.scores["convnet"].last
    for kind in ("synthetic", "ema", "random"):
        assert f"{last[kind].mean:.1f} ± {last[kind].sd:.1f}" in read.says
    for scores in (facts.scores["convnet"].selected, facts.scores["convnet"].largest):
        assert scores is not None
        assert f"{scores['ema'].mean:.1f}" in read.says
    for command in facts.commands:
        assert command in re.sub(r"\s+", " ", read.says)
    for entry in facts.settings:
        assert entry.name in read.says
    assert "Nothing is published for this method" in read.says
    assert "Not everything could be shown" not in read.says
    assert "of 100 that the recipe has" in read.says
    assert "256 bytes per class" in read.says
    assert len(read.pictures()) == 20
    assert "prefers-color-scheme: dark" in read.text


def test_published_values_stand_beside_the_scores(facts: Facts) -> None:
    read = rendered(made.published(facts))
    assert "48.3 ± 1.0" in read.says
    assert "60.6 ± 0.8" in read.says
    assert "Frequency Domain-based Dataset Distillation" in read.says
    rows = plots.rows_of(made.published(facts), "convnet")
    assert [text for text, _, _ in rows][-2:] == ["published: att", "published: fred"]
    assert not [text for text, _, _ in plots.rows_of(made.published(facts), "mlp") if "published" in text]


def test_names_of_files_never_leave_their_place(facts: Facts) -> None:
    read = rendered(made.hostile(facts))
    assert "img" in read.tags
    assert "b" not in read.tags
    for name in (made.HOSTILE[0], made.HOSTILE[1], "{{ 7 * 7 }}{% raw %}", "line break  [31m"):
        assert name in "".join(read.words)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", read.text)


@pytest.mark.parametrize("name", ["multiformation", "frequency", "codes", "soft"])
def test_sets_of_every_kind_are_reported_without_scores(name: str, others: dict[str, Path]) -> None:
    facts = gather.facts(others[name], [others[name].parent / ".attcli"])
    assert facts.missing == [f"{others[name]} holds no scores; run `attcli evaluate`"]
    read = rendered(facts)
    assert facts.size is not None
    assert len(read.pictures()) == 2 * 10 * facts.size.images_per_class
    assert "not scored" in read.says
    assert f"{facts.size.images_per_class} image{'' if facts.size.images_per_class == 1 else 's'}" in read.says
    if name == "soft":
        assert facts.pictures is not None
        assert facts.pictures.own_share is not None
        assert "Labels are learned" in read.says
        assert len([word for word in read.words if re.fullmatch(r"\d \d+ %, \d \d+ %, \d \d+ %", word)]) == 2 * 20
    else:
        assert (facts.size.images_per_class > 1) == (name != "frequency")  # 8x8 pixels are too few for more
        assert "learned as" in read.says


@pytest.mark.parametrize(
    ("classes", "per_class", "side"), [(100, 50, 32), pytest.param(200, 10, 64, marks=pytest.mark.slow), (200, 1, 128)]
)
def test_pages_of_large_sets_stay_small_and_say_what_they_leave_out(
    classes: int, per_class: int, side: int, facts: Facts
) -> None:
    told = made.many(facts, classes, per_class, side)
    read = rendered(told)
    assert told.pictures is not None
    shown = len(told.pictures.variants["ema"][0])
    assert all(len(of_class) == shown for of_class in told.pictures.variants["ema"])
    assert len(read.pictures()) == 2 * classes * shown >= 2 * classes
    assert (f"The first {shown} of {per_class} images of each class are shown." in read.says) == (shown < per_class)
    assert (f"shown at {told.pictures.side}×{told.pictures.side} pixels" in read.says) == (told.pictures.side < side)
    assert all(picture.size == (told.pictures.side,) * 2 for picture in read.pictures())


def test_images_that_are_too_large_are_halved_until_one_of_each_class_fits() -> None:
    distilled = made.decoded(4, 3, 16)
    whole = pictures.of_set(distilled)
    assert (whole.shrunk, whole.side, len(whole.variants["ema"][0])) == (1, 16, 3)
    one = sum(len(of_class[0]) for variant in whole.variants.values() for of_class in variant)
    two = one + sum(len(of_class[1]) for variant in whole.variants.values() for of_class in variant)
    assert [len(pictures.of_set(distilled, most).variants["ema"][0]) for most in (two, two - 1, one)] == [2, 1, 1]
    smaller = pictures.of_set(distilled, one - 1)
    assert (smaller.shrunk, smaller.side) == (2, 8)
    few = pictures.of_set(distilled, most_pictures=2 * 4 * 2)
    assert len(few.variants["ema"][0]) == 2


def test_without_its_normaliser_a_set_is_shown_as_networks_see_it() -> None:
    from dataclasses import replace

    distilled = replace(made.decoded(2, 1, 8), normaliser=None)
    shown = pictures.of_set(distilled)
    assert shown.as_networks_see_them
    assert len(shown.variants["synthetic"]) == 2


def test_a_run_without_anything_else_is_reported(copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy)
    Path("few").mkdir()
    (copy / "artifacts" / "synthetic.h5").rename("few/synthetic.h5")
    result = cli("report", "--artifacts", "few")
    assert result.splitlines() == ["few/report/report.html", "few/report/report.json"]
    read = checked(Path("few/report/report.html").read_text())
    assert "Not everything could be shown" in read.says
    assert "few holds no scores; run `attcli evaluate`" in read.says
    assert "--artifacts few" in read.says
    assert cli("report", code=2) == "attcli: artifacts/synthetic.h5 is missing; run `attcli distill`\n"
    Path("file").touch()
    for words in (("report", "--artifacts", "few"), ("compare", "few", "few")):
        assert "is no folder; choose another folder as --out" in cli(*words, "--out", "file", code=2)


def test_a_report_that_cannot_be_written_leaves_the_one_before(
    copy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    cli("report")
    before = {path: path.read_bytes() for path in Path("artifacts/report").iterdir()}
    Path("artifacts/scores.json").unlink()

    def full(self: Path, *words: object, **more: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        patched.setattr(Path, "write_text", full)
        assert "No space left on device" in cli("report", code=2)
    assert {path: path.read_bytes() for path in Path("artifacts/report").iterdir()} == before
