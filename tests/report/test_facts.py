"""The data of a report are what the files of the run say; what is missing or damaged leaves a gap and a sentence."""

import json
import shutil
import statistics
from pathlib import Path

import h5py
import numpy as np
import pytest

from attcli import load
from attcli.records import making
from attcli.report import courses, files, gather, page, plots
from attcli.report.model import Facts
from attcli.store import artefact, history, synthetic
from tests.conftest import SMALL


def gathered(folder: Path = Path()) -> Facts:
    return gather.facts(folder / "artifacts", [folder / ".attcli"])


def test_facts_are_those_of_the_files_and_of_the_record(scored: Path, facts: Facts) -> None:
    record = making.make("x", scored / "artifacts", [scored / ".attcli"])
    about = facts.about
    assert facts.missing == []
    assert (about.dataset, about.method, about.ipc, about.iterations) == ("digits", "att", 1, 6)
    assert (about.arch, about.channels, about.side, about.seed) == ("convnet", 1, 8, 0)
    assert about.classes == [str(digit) for digit in range(10)]
    assert (about.sha256, about.learned_lr) == (record.set_sha256, record.learned_lr)
    assert facts.scores == record.scores
    assert (facts.size, facts.times, facts.experts) == (record.size, record.times, record.experts)
    assert (facts.recipe, facts.published, facts.code) == (record.recipe, record.published, record.attcli)
    assert facts.file_bytes == (scored / "artifacts" / "synthetic.h5").stat().st_size
    with h5py.File(scored / "artifacts" / "dataset.h5") as data:
        images = data["train/images"]
        assert facts.real is not None
        assert (facts.real.images, facts.real.bytes) == (len(images), images[()].nbytes)
    own = json.loads((scored / "artifacts" / "scores.json").read_text())["scores"]
    assert facts.per_class == {
        arch: {kind: entry["per_class"] for kind, entry in kinds.items()} for arch, kinds in own.items()
    }
    assert facts.about.planned == 100  # the recipe's


def test_the_course_is_that_of_the_history(scored: Path, facts: Facts) -> None:
    with h5py.File(scored / "artifacts" / "history.h5") as file:
        columns = {name: file[name][()] for name in history.SCALARS}
    told = facts.history
    assert told is not None
    assert (told.iterations, told.stretch, told.first, told.steps) == (6, 1, list(range(6)), 5)
    for name in ("loss", "step", "lr"):
        course = getattr(told, name)
        assert course.low == course.mean == course.high
        assert course.mean == pytest.approx(columns[name].tolist(), rel=1e-5)
    assert told.not_accepted == int((columns["accepted"] == 0).sum())
    assert told.seconds == pytest.approx(statistics.median(columns["seconds"].tolist()), abs=1e-4)


def test_long_runs_are_told_in_stretches() -> None:
    count = 2 * courses.MOST_STRETCHES + 1
    rng = np.random.default_rng(0)
    loss = rng.uniform(size=count)
    loss[3:6] = np.nan, np.inf, -np.inf  # the whole second stretch
    arrays = {name: rng.uniform(size=count) for name in ("step", "lr", "seconds")}
    arrays |= {"loss": loss, "iteration": np.arange(count), "accepted": np.arange(count) % 2}
    told = courses.of_history(arrays, 7)
    assert told is not None
    assert (told.iterations, told.stretch, told.steps) == (count, 3, 7)
    assert told.first == list(range(0, count, 3))
    assert told.not_accepted == (count + 1) // 2
    assert (told.loss.low[1], told.loss.mean[1], told.loss.high[1]) == (None, None, None)
    last = loss[told.first[-1] :]
    for values, of in ((told.loss.low, np.min), (told.loss.mean, np.mean), (told.loss.high, np.max)):
        assert len(values) == len(told.first)
        assert values[2] == pytest.approx(of(loss[6:9]), rel=1e-5)
        assert values[-1] == pytest.approx(of(last), rel=1e-5)
    assert courses.of_history({name: array[:0] for name, array in arrays.items()}, 7) is None


def test_settings_say_where_they_came_from(facts: Facts) -> None:
    settings = {entry.name: entry for entry in facts.settings}
    assert settings["distill.syn_steps"].value == 5
    assert settings["distill.syn_steps"].differs
    assert settings["distill.syn_steps"].origin == "set for this run"
    assert settings["distill.syn_steps"].usual == 60
    same = settings["network.depth"]
    assert (same.value, same.differs) == (SMALL["network.depth"], False)
    assert same.origin.startswith(("recipe att/digits/ipc1", "default"))
    of_recipe = [entry for entry in facts.settings if entry.origin.startswith("recipe")]
    assert of_recipe
    assert all(entry.source for entry in of_recipe)
    assert settings["distill.method"].origin == "asked for"
    assert settings["distill.select"].origin == "method att"
    differing = [entry.differs for entry in facts.settings]
    assert differing == sorted(differing, reverse=True)


def test_the_params_file_of_the_folder_is_an_origin_where_it_has_the_value(copy: Path) -> None:
    from attcli.settings import resolve

    Path("params.yaml").write_text("distill: {syn_steps: 5, method: att}\nprepare: {dataset: digits, validation: 50}\n")
    here = resolve({}, environ={})
    told = gather.facts(Path("artifacts"), [Path(".attcli")], here=here)
    settings = {entry.name: entry.origin for entry in told.settings}
    assert settings["distill.syn_steps"] == "params.yaml"
    assert settings["prepare.dataset"] == "params.yaml"
    assert settings["prepare.validation"] == "set for this run"  # which has another value there


def test_what_is_missing_is_said_and_the_rest_told(copy: Path) -> None:
    whole = gathered()
    results = Path("artifacts")
    for file in ("scores.json", "scores-about.json", "snapshot-scores.json"):
        (results / file).unlink()
    told = gathered()
    assert told.missing == ["artifacts holds no scores; run `attcli evaluate`"]
    assert (told.scores, told.per_class, told.protocol) == ({}, {}, {})
    assert told.history == whole.history
    (results / "history.h5").unlink()
    shutil.rmtree(results / "experts")
    (results / "dataset.h5").unlink()
    shutil.rmtree(".attcli")
    told = gathered()
    assert told.missing == [
        "the experts are not beside the set, so their settings and number of epochs are not known",
        "artifacts holds no scores; run `attcli evaluate`",
        "artifacts/history.h5 is missing; run `attcli distill`",
        "the times of prepare, buffer, distill are not known, as no work folder keeps them",
    ]
    assert (told.history, told.experts, told.real) == (None, None, None)
    assert told.pictures == whole.pictures
    assert told.size == whole.size


def test_what_is_damaged_or_of_another_run_is_left_out(copy: Path) -> None:
    results = Path("artifacts")
    header, arrays = artefact.read(results / "history.h5", history.KIND, history.MAKER)
    cut = {name: array[:4] for name, array in arrays.items()}
    history.write(results / "history.h5", header, cut)
    told = gathered()
    assert told.missing == ["the history tells of 4 of 6 iterations"]
    assert told.history is not None
    assert told.history.iterations == 4
    other = artefact.Header(header.kind, "0" * 16, header.settings, header.about, header.versions)
    history.write(results / "history.h5", other, arrays)
    told = gathered()
    assert told.missing == ["artifacts/history.h5 is of another set; run `attcli distill`"]
    assert told.history is None
    (results / "history.h5").write_bytes(b"x" * 5000)
    assert [sentence for sentence in gathered().missing if "history.h5" in sentence]
    scores = json.loads((results / "scores.json").read_text())
    scores["scores"]["convnet"]["ema"]["per_class"][3] = "<b>"
    (results / "scores.json").write_text(json.dumps(scores))
    assert "ema" not in gathered().per_class["convnet"]
    (results / "scores.json").write_text("{")
    told = gathered()
    assert told.scores == {}
    assert any("scores.json is damaged" in sentence for sentence in told.missing)


def test_pictures_are_the_images_of_both_variants(scored: Path, facts: Facts) -> None:
    import base64
    import io

    from PIL import Image

    distilled = load(scored / "artifacts" / "synthetic.h5")
    assert facts.pictures is not None
    assert distilled.normaliser is not None
    assert list(facts.pictures.variants) == ["synthetic", "ema"]
    for name, by_class in facts.pictures.variants.items():
        visible = distilled.normaliser.inverse(distilled.variants[name]).clamp(0, 1)
        for label, (text,) in enumerate(by_class):
            decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
            assert np.array_equal(decoded, (visible[label, 0] * 255).round().numpy().astype(np.uint8))


def test_data_come_back_and_hostile_ones_are_refused(tmp_path: Path, facts: Facts) -> None:
    written = files.write(tmp_path, files.PAGE, "x", {}, facts)
    assert written == [tmp_path / "report.html", tmp_path / "report.json"]
    assert files.read(tmp_path / "report.json") == facts
    content = json.loads((tmp_path / "report.json").read_text())
    bad = json.loads(json.dumps(content))
    bad["pictures"]["variants"]["ema"][0][0] = '"><script>'
    empty = json.loads(json.dumps(content))
    empty["history"]["loss"]["mean"].append(1.0)
    unlike = [
        {**content, "about": {**content["about"], "date": "2026-19-39"}},
        {**content, "scores": {"convnet": {"last": {}}}},
        {**content, "pictures": {**content["pictures"], "variants": {"synthetic": []}}},
        {**content, "history": {**content["history"], "first": []}},
    ]
    for changed in (
        empty,
        *unlike,
        bad,
        {**content, "more": 1},
        {**content, "form": 2},
        [],
        {**content, "about": None},
    ):
        (tmp_path / "report.json").write_text(json.dumps(changed))
        with pytest.raises(files.UserError, match="holds no data of a report") as refused:
            files.read(tmp_path / "report.json")
        assert len(str(refused.value)) < 400


def test_hostile_headers_are_told_in_one_line_and_written(copy: Path) -> None:
    results = Path("artifacts")
    header, arrays = artefact.read(results / "synthetic.h5", synthetic.KIND, synthetic.MAKER)
    names = ["\u200b", "a\u00adb\u2060", *map(str, range(2, 10))]
    about = {**header.about, "classes": names, "method": "no\u200bsuch\ufeffmethod"}
    settings = {**header.settings, "distill": {**header.settings["distill"], "augment": "\udcfe"}}
    changed = artefact.Header(header.kind, header.fingerprint, settings, about, {"attcli": "\udcfd"})
    artefact.write(results / "synthetic.h5", changed, arrays)
    header, arrays = artefact.read(results / "history.h5", history.KIND, history.MAKER)
    machine = {"cpu": ["no", "text"], "cores": -1}
    about = {**header.about, "machine": machine}
    changed = artefact.Header(header.kind, header.fingerprint, header.settings, about, header.versions)
    artefact.write(results / "history.h5", changed, arrays)
    told = gathered()
    assert told.about.classes[:3] == [" ", "a b ", "2"]
    assert told.about.method == "no such method"
    assert {entry.name: entry.value for entry in told.settings}["distill.augment"] == " "
    assert {entry.origin for entry in told.settings} <= {"the set's file", "asked for"}
    assert [sentence for sentence in told.missing if sentence.startswith("a part of the results is not what it should")]
    assert all(len(sentence.splitlines()) == 1 for sentence in told.missing)
    drawn = plots.of_run(told)
    files.write(Path("out"), files.PAGE, page.of_run(told, drawn), drawn, told)
    assert files.read(Path("out/report.json")) == told
