"""The door from Python, and the examples of the documentation."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import attcli
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import dataset, states, synthetic
from tests.data.pictures import classes

MakeRun = Callable[..., Run]
REPOSITORY = Path(__file__).parents[1]


SMALL = """
import attcli
attcli.distill(attcli.resolve({"prepare.dataset": "digits", "buffer.experts": 1, "distill.iterations": 1}))
"""
"""What makes the set that the README's example reads."""


SMALL_OWN = """
import attcli
from pathlib import Path
from tests.data.pictures import classes

classes(Path("photos"), ("a", "b", "c", "d"), 10)
wanted = {
    "prepare.dataset": "folder", "runtime.data_dir": "photos", "prepare.resolution": 32, "network.width": 8,
    "buffer.batch": 16, "buffer.experts": 1, "distill.iterations": 1, "distill.syn_steps": 2, "evaluate.epochs": 2,
}
attcli.distill(attcli.resolve(wanted))
"""
"""What makes the set that the tutorial on images of one's own reads."""


@pytest.mark.parametrize(
    ("page", "before"),
    [("docs/python.md", ""), ("README.md", SMALL), ("docs/tutorials/own-images.md", SMALL_OWN)],
)
def test_the_examples_run(page: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    subprocess.run(
        [sys.executable, "-c", "\n".join([before, *blocks])],
        check=True,
        env={**__import__("os").environ, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
    )


def test_importing_is_instant_and_silent() -> None:
    code = "import sys, attcli; print([m for m in ('torch', 'numpy', 'h5py') if m in sys.modules], dir(attcli))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith("[] ")
    assert "load" in said


def test_a_set_is_what_its_file_holds(make_run: MakeRun) -> None:
    run = make_run(evaluate__batch=7)
    pipeline.distill(run)
    loaded, stored = attcli.load(str(run.synthetic)), synthetic.read(run.synthetic)
    assert torch.equal(loaded.images, stored.variants["synthetic"])
    assert torch.equal(loaded.variants["ema"], stored.variants["ema"])
    assert torch.equal(loaded.probabilities.argmax(1), loaded.labels)
    assert (loaded.lr, loaded.classes, loaded.protocol.batch) == (stored.lr, stored.about["classes"], 7)
    assert torch.equal(loaded.dataset().tensors[1], stored.labels)
    assert torch.equal(loaded.dataset("ema").tensors[0], stored.variants["ema"])
    snapshot = attcli.load(states.snapshots(run.snapshots)[-1])
    assert torch.equal(snapshot.images, loaded.images)
    with pytest.raises(attcli.UserError, match="there is no variant 'best'"):
        loaded.dataset("best")


def test_training_and_scoring_are_those_of_the_command(make_run: MakeRun) -> None:
    run = make_run(evaluate__repeats=1)
    report = pipeline.evaluate(run)
    data = dataset.read(run.dataset)
    test = data.images["test"], data.labels["test"]
    loaded = attcli.load(run.synthetic)
    assert loaded.score("convnet", test) == pytest.approx(report["scores"]["convnet"]["synthetic"]["mean"], abs=1e-3)
    in_unit_range = data.images["test"].float() / 16, data.labels["test"]
    model = loaded.train("convnet")
    assert loaded.score(model, test) == loaded.score(model, in_unit_range)


def test_scores_on_the_test_images_of_a_dataset_file(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.distill(run)
    data = dataset.read(run.dataset)
    loaded = attcli.load(run.synthetic)
    model = loaded.build("mlp")
    expected = loaded.score(model, (data.images["test"], data.labels["test"]))
    assert loaded.score(model, run.dataset) == loaded.score(model, str(run.dataset)) == expected
    images = classes(tmp_path / "images", ("cat", "dog"), 20)
    of_others = attcli.resolve(
        {
            "prepare.dataset": "folder",
            "runtime.data_dir": str(images),
            "runtime.artifacts": str(tmp_path / "others"),
            "runtime.work_dir": str(tmp_path / "others-work"),
            "buffer.batch": 8,
        }
    )
    with pytest.raises(attcli.UserError, match=r"has the classes \['cat', 'dog'\].*that the set was distilled from"):
        loaded.score(model, attcli.prepare(of_others))


def test_a_set_is_printed_in_one_line(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    loaded = attcli.load(run.synthetic)
    said = "DistilledSet(10 images of 1x8x8 for 10 classes, from digits by att, lr "
    assert repr(loaded).startswith(said)
    assert repr(loaded).endswith(", variants synthetic, ema)")
    assert "\n" not in repr(loaded)


def test_learned_labels_are_probabilities(make_run: MakeRun) -> None:
    run = make_run(distill__labels="learned")
    pipeline.distill(run)
    loaded = attcli.load(run.synthetic)
    stored = synthetic.read(run.synthetic)
    assert torch.allclose(loaded.probabilities, stored.labels.softmax(1))
    assert loaded.dataset().tensors[1].shape == (10, 10)
    assert loaded.train("mlp") is not None


def test_a_module_with_batch_norm_is_trained_in_place(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    loaded = attcli.load(run.synthetic)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    before = model[0].weight.clone()
    assert loaded.train(model) is model
    assert not torch.equal(model[0].weight, before)
    assert not torch.equal(model[1].running_mean, torch.zeros(4))
    data = dataset.read(run.dataset)
    test = data.images["test"], data.labels["test"]
    seen: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    accuracy = loaded.score(model, test)
    assert max(seen) == 250  # of 450: what layers put out for all of them may not fit into memory
    handle.remove()
    answers = model(data.inputs("test")).argmax(dim=1)
    assert accuracy == pytest.approx(100 * float((answers == test[1]).float().mean()), abs=1e-3)


def test_settings_for_notebooks() -> None:
    settings = attcli.resolve({"prepare.dataset": "digits", "distill.ipc": 1})
    assert settings.network.width == 64  # the recipe's
    in_sections = {"prepare": {"dataset": "digits"}, "distill.ipc": 1}
    assert attcli.resolve(in_sections) == settings
    for wrong, words in (
        ({"prepare.dataset": "digitz"}, "unknown dataset"),
        ({"distill.lr_im": 3}, "unknown setting 'distill.lr_im'; did you mean 'distill.lr_img'"),
        ({"distill": 3}, "section 'distill' must hold settings"),
        ({3: 4}, "unknown setting '3'"),
        (["digits"], "settings are a dict"),
    ):
        with pytest.raises(attcli.UserError, match=words):
            attcli.resolve(wrong)  # type: ignore[arg-type]
    for function in (attcli.prepare, attcli.buffer, attcli.distill, attcli.evaluate):
        with pytest.raises(attcli.UserError, match=r"settings are what attcli\.resolve returns"):
            function({"prepare.dataset": "digits"})  # type: ignore[operator]


def test_the_log_can_be_turned_on(tmp_path: Path) -> None:
    code = """
import sys
import attcli
from loguru import logger
settings = attcli.resolve({"prepare.dataset": "digits", "runtime.artifacts": "results", "runtime.work_dir": "work"})
logger.remove()
logger.add(sys.stdout)
if sys.argv[1] == "on":
    logger.enable("attcli")
attcli.prepare(settings)
"""
    for wanted in ("on", "off"):
        words, folder = [sys.executable, "-c", code, wanted], tmp_path / wanted
        folder.mkdir()
        said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder).stdout
        assert "prepared digits" in said if wanted == "on" else said == ""


class Squeezed(nn.Module):
    """Drops the axes of length one, also that of a single image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze()


def test_images_and_networks_that_do_not_fit_a_set(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    distilled = attcli.load(run.synthetic)
    module = distilled.build("convnet")
    data = dataset.read(run.dataset)
    pixels, classes_of = data.images["test"][torch.arange(len(data.images["test"]))], data.labels["test"]
    in_floats = pixels.float() * data.about["value_scale"]
    accuracy = distilled.score(distilled.train(module), (pixels, classes_of))
    assert distilled.score(module, (in_floats, classes_of)) == accuracy
    distilled.score(module, (1.2 * in_floats - 0.1, classes_of))  # as resampling may leave them
    whole, answers = torch.zeros(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64)
    for images, labels, words in (
        (whole + 15, answers, "are floats from 15 to 15; scale them"),
        (torch.full((6, 1, 8, 8), float("nan")), answers, "scale them"),
        (whole[:5], answers, "pass an integer for each of the 5 images"),
        (whole, answers.float(), "pass an integer for each"),
        (whole, answers + 10, "must be from 0 to 9"),
        (whole, answers - 1, "must be from 0 to 9"),
        (whole.repeat(1, 3, 1, 1), answers, "the test images have the shape"),
        (whole[:0], answers[:0], "pass N > 0 images"),
    ):
        with pytest.raises(attcli.UserError, match=words):
            distilled.score(module, (images, labels))
    for network, words in (
        (nn.Linear(3, 3), "cannot answer images of the shape"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), "with 10 numbers"),
        (nn.Flatten(), "has no parameters"),
    ):
        with pytest.raises(attcli.UserError, match=words):
            distilled.train(network)
        with pytest.raises(attcli.UserError, match=words):
            distilled.score(network, (whole, answers))
    for network in (  # which do not answer a single image
        nn.Sequential(nn.Conv2d(1, 10, 8), Squeezed()),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 10)),
    ):
        distilled.score(network, (whole, answers))


def test_sets_of_other_protocols_are_trained_on_as_the_command_does(make_run: MakeRun) -> None:
    asked = {
        "evaluate__protocol": "selmatch",
        "distill__distilled_share": 0.5,
        "distill__ipc": 2,
        "evaluate__batch": 10,
    }
    run = make_run(evaluate__repeats=1, evaluate__baselines=(), **asked)
    report = pipeline.evaluate(run)
    score = report["scores"]["convnet"]["synthetic"]["mean"]
    loaded = attcli.load(run.synthetic)
    assert loaded.protocol.combined
    short = {name: report["protocol"][name] for name in ("epochs", "batch", "augment")}
    loaded = replace(loaded, protocol=replace(loaded.protocol, **short))
    assert loaded.real is not None
    assert loaded.real.tolist() == [True, False] * 10 or loaded.real.tolist() == [False, True] * 10
    data = dataset.read(run.dataset)
    assert loaded.score("convnet", (data.images["test"], data.labels["test"])) == pytest.approx(score, abs=1e-3)


def test_a_set_for_one_initial_network_is_trained_on_from_it(make_run: MakeRun) -> None:
    run = make_run(
        distill__method="dd",
        distill__student_start="fixed",
        distill__syn_steps=3,
        distill__real_batch=100,
        distill__batch_syn=10,
        evaluate__protocol="replay",
        evaluate__repeats=1,
        evaluate__baselines=(),
    )
    score = pipeline.evaluate(run)["scores"]["convnet"]["synthetic"]["mean"]
    loaded = attcli.load(run.synthetic)
    data = dataset.read(run.dataset)
    assert loaded.score("convnet", (data.images["test"], data.labels["test"])) == pytest.approx(score, abs=1e-3)
    with pytest.raises(attcli.UserError, match="each at a rate of its own; leave lr out"):
        loaded.train("convnet", lr=0.1)


def test_frozen_parameters_are_not_changed(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].bias.requires_grad_(False)
    with pytest.raises(attcli.UserError, match=r"1\.bias does not require gradients.*pass the part alone"):
        attcli.load(run.synthetic).train(model)
