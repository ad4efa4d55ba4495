"""The baselines of a whole run: what they are, what is kept of them, and what is not computed again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attcli.errors import OutOfTimeError, UserError
from attcli.networks import mlp
from attcli.scoring import networks, real
from attcli.stages import pipeline, work
from attcli.stages.run import Run
from attcli.store import dataset
from tests.conftest import Cli
from tests.stages.observed import logged

MakeRun = Callable[..., Run]

ALL = ("random", "herding", "k-center", "forgetting", "whole")


def short(make_run: MakeRun, *names: str, **changes: object) -> Run:
    return make_run(evaluate__baselines=names or ALL, evaluate__whole_epochs=3, **changes)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """How many images each training saw, and its purpose."""
    seen: list[tuple[int, str]] = []
    real_train = networks.train

    def counted(*inputs: object) -> torch.Tensor:
        images, key = inputs[2], inputs[7]
        seen.append((len(images), key[1]))  # type: ignore[arg-type, index]
        return real_train(*inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "train", counted)
    return seen


def kept(run: Run, stage: str) -> list[dict[str, object]]:
    (file,) = run.settings.runtime.work_dir.glob(f"{stage}-*/results.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_all_baselines_on_the_digits(make_run: MakeRun, trainings: list[tuple[int, str]]) -> None:
    run = short(make_run, evaluate__archs="convnet,mlp")
    report = pipeline.evaluate(run)
    training_images = len(dataset.read(run.dataset).labels["train"])
    tests = report["protocol"]["test_images"]
    assert json.loads(run.scores.read_text())["scores"] == report["scores"]
    for row in report["scores"].values():
        assert list(row) == ["synthetic", "ema", *ALL]
        for entry in row.values():
            counts = np.array(entry["confusion"])
            assert counts.sum() == 2 * tests
            assert entry["mean"] == pytest.approx(100 * counts.trace() / counts.sum(), abs=1e-4)
            assert entry["per_class"] == pytest.approx(100 * counts.diagonal() / counts.sum(axis=1), abs=1e-4)
    assert trainings.count((training_images, "whole")) == 2 * 2  # the one that selects is the first of the convnet's
    assert report["protocol"]["whole"]["epochs"] == 3
    assert report["protocol"]["whole"]["selected_by"]["arch"] == "convnet"
    assert len(report["set"]["classes"]) == 10


def test_asking_for_more_baselines_changes_no_score_and_repeats_none(
    make_run: MakeRun, trainings: list[tuple[int, str]]
) -> None:
    before = pipeline.evaluate(make_run())
    trainings.clear()
    after = pipeline.evaluate(short(make_run))
    assert {kind: after["scores"]["convnet"][kind] for kind in before["scores"]["convnet"]} == before["scores"][
        "convnet"
    ]
    assert len([purpose for _, purpose in trainings if purpose == "evaluate"]) == 3 * 2 * 3
    trainings.clear()
    assert pipeline.evaluate(short(make_run)) == after
    assert pipeline.evaluate(make_run()) == before
    assert trainings == []


def test_an_interrupted_evaluation_goes_on(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pipeline.evaluate(short(make_run, folder=tmp_path / "at-once"))
    run = short(make_run, folder=tmp_path / "stopped")
    real_train, begun = networks.train, []
    for allowed in (0, 1, 4, 9):

        def stopped(*inputs: object, allowed: int = allowed) -> torch.Tensor:
            if len(begun) == allowed:
                raise KeyboardInterrupt
            begun.append(inputs[7])
            return real_train(*inputs)  # type: ignore[arg-type]

        monkeypatch.setattr(networks, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            pipeline.evaluate(run)
        begun.clear()
    monkeypatch.setattr(networks, "train", lambda *inputs: (begun.append(inputs[7]), real_train(*inputs))[1])
    assert pipeline.evaluate(run) == whole
    assert [key[1] for key in begun].count("whole") <= 1


def test_a_time_limit_ends_the_trainings_that_select_too(
    make_run: MakeRun, tmp_path: Path, trainings: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.evaluate(short(make_run, "forgetting", evaluate__forgetting_runs=3, folder=tmp_path / "at-once"))
    run = short(make_run, "forgetting", evaluate__forgetting_runs=3, runtime__threads=1)
    pipeline.distill(run)
    trainings.clear()
    for begun in (0, 1, 3):
        monkeypatch.setattr(Run, "out_of_time", lambda self, begun=begun: len(trainings) >= begun)
        with pytest.raises(OutOfTimeError, match="0 of 6 results are kept"):
            pipeline.evaluate(run)
        assert len(trainings) == begun
    monkeypatch.setattr(Run, "out_of_time", lambda self: False)
    assert pipeline.evaluate(run)["scores"] == whole["scores"]
    assert [purpose for _, purpose in trainings].count("whole") == 3


@pytest.mark.slow
def test_training_images_are_held_once_however_many_trainings_read_them(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, few = ("herding", "whole"), {"distill__iterations": 2, "evaluate__epochs": 1, "runtime__threads": 2}
    usual = pipeline.evaluate(short(make_run, *names, folder=tmp_path / "usual", **few))["scores"]
    run = short(make_run, *names, **few)
    pipeline.distill(run)
    held: list[str] = []
    most: list[int] = []
    network_inputs, real_inputs = dataset.Dataset.network_inputs, real.network_inputs

    def all_images(self: dataset.Dataset, split: str, *others: object) -> object:
        held.append(split)
        return network_inputs(self, split, *others)  # type: ignore[arg-type]

    def some_images(images: torch.Tensor, *others: object) -> torch.Tensor:
        most.append(len(images))
        return real_inputs(images, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset.Dataset, "network_inputs", all_images)
    monkeypatch.setattr(real, "network_inputs", some_images)
    monkeypatch.setattr("attcli.scoring.whole.chunk_size", lambda values: 50)
    assert pipeline.evaluate(run)["scores"] == usual
    assert held.count("train") == 1
    assert max(most) == 50


def test_the_images_are_selected_once_for_all_sets(
    make_run: MakeRun, trainings: list[tuple[int, str]], tmp_path: Path
) -> None:
    first = short(make_run, "herding", "forgetting", "whole")
    scores = pipeline.evaluate(first)["scores"]["convnet"]
    selections = kept(first, "baselines")
    trainings.clear()
    other = short(
        make_run, "herding", "whole", folder=tmp_path, runtime__artifacts=str(tmp_path / "other"), distill__lr_img=2.0
    )
    assert pipeline.evaluate(other)["scores"]["convnet"]["whole"] == scores["whole"]
    assert [purpose for _, purpose in trainings if purpose == "whole"] == []
    assert kept(first, "baselines") == selections


def test_selections_are_of_the_asked_size_and_of_training_images(make_run: MakeRun) -> None:
    run = short(make_run, "herding", "k-center", "forgetting", distill__ipc=3, prepare__validation=0)
    pipeline.evaluate(run)
    labels = dataset.read(run.dataset).labels["train"]
    found = {tuple(entry["key"][:3]): entry["value"] for entry in kept(run, "baselines")}  # type: ignore[index]
    assert {name for _, name, _ in found} == {"herding", "k-center", "forgetting"}
    for value in found.values():
        assert labels[value["indices"]].tolist() == [c for c in range(10) for _ in range(3)]
        assert not set(value["indices"]) & set(value["held_out"])
        assert len(value["held_out"]) == len(labels) - 30
    assert found["selection", "herding", "0"]["indices"] == found["selection", "herding", "1"]["indices"]
    assert found["selection", "k-center", "0"]["indices"] != found["selection", "k-center", "1"]["indices"]


def test_what_selects_is_part_of_what_a_result_is_kept_under(
    make_run: MakeRun, trainings: list[tuple[int, str]]
) -> None:
    pipeline.evaluate(short(make_run, "forgetting"))
    for changes in ({"evaluate__forgetting_runs": 2}, {"evaluate__whole_arch": "mlp"}, {"evaluate__whole_lr": 0.02}):
        trainings.clear()
        pipeline.evaluate(short(make_run, "forgetting", **changes))
        purposes = [purpose for _, purpose in trainings]
        assert (purposes.count("whole"), purposes.count("evaluate")) == (1, 2 * 3), changes


def test_damaged_trainings_are_set_aside_and_made_anew(make_run: MakeRun, tmp_path: Path) -> None:
    run = short(make_run, "whole")
    scores = pipeline.evaluate(run)["scores"]
    (folder,) = run.settings.runtime.work_dir.glob("baselines-*")
    (folder / "results.jsonl").unlink()
    files = sorted(folder.glob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:1000])
    content = bytearray(files[1].read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] ^= 128  # the version of zip that is needed to read it
    files[1].write_bytes(content)
    with logged() as lines:
        assert pipeline.evaluate(run)["scores"] == scores
    assert len([line for line in lines if "is damaged" in line]) == 2


def test_fresh_sets_trainings_on_all_images_aside_too(make_run: MakeRun, trainings: list[tuple[int, str]]) -> None:
    run = short(make_run, "whole")
    scores = pipeline.evaluate(run)["scores"]
    trainings.clear()
    anew = Run(run.settings, fresh="evaluate")
    assert pipeline.evaluate(anew)["scores"] == scores
    assert len([purpose for _, purpose in trainings if purpose == "whole"]) == 2
    described = {entry.stage: entry.what for entry in work.listed(run) if not entry.what.endswith("(set aside)")}
    assert described["baselines"] == "2 trainings on all training images"


def test_results_of_older_versions_are_shown_without_classes(make_run: MakeRun) -> None:
    run = make_run()
    before = pipeline.evaluate(run)["scores"]["convnet"]
    (file,) = run.settings.runtime.work_dir.glob("evaluate-*/results.jsonl")
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    for entry in entries:
        del entry["value"]["confusion"], entry["checksum"]
    file.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    with logged() as lines:
        after = pipeline.evaluate(run)["scores"]["convnet"]
    for kind, entry in after.items():
        assert entry == {**before[kind], "per_class": None, "confusion": None}
    assert any("older version" in line and "--fresh" in line for line in lines)


def test_the_whole_set_is_scored_where_a_class_has_too_few_images(make_run: MakeRun) -> None:
    small = {"prepare__limit_per_class": 20, "prepare__validation": 50, "buffer__batch": 64}
    run = short(make_run, "random", "whole", distill__ipc=17, distill__init="noise", **small)
    with logged() as lines:
        assert set(pipeline.evaluate(run)["scores"]["convnet"]) == {"synthetic", "ema", "whole"}
    assert any("too few" in line for line in lines)


def test_baselines_from_the_command_line(cli: Cli) -> None:
    table = cli.small("evaluate", "--baselines", "random,random,whole", "--set", "evaluate.whole_epochs=2")
    rows = [line.split()[1] for line in table.splitlines() if "±" in line]
    assert rows == ["synthetic", "ema", "random", "whole"]
    for words in (("--set", "evaluate.baselines=[]"), ("--baselines", "none")):
        none = cli.small("evaluate", *words, "--json")
        assert set(json.loads(none)["scores"]["convnet"]) == {"synthetic", "ema"}
    assert "none stands alone" in cli.small("evaluate", "--baselines", "none,random", code=2)
    told = cli.small("evaluate", "--baselines", "herdin", code=2)
    assert "unknown baseline 'herdin'; did you mean 'herding'?" in told
    told = cli.small("evaluate", "--snapshots", "--baselines", "herding", code=2)
    assert "--snapshots scores no baselines; leave --baselines out" in told
    plan = cli.small("evaluate", "--baselines", "herding,whole", "--dry-run")
    assert "herding at 3 learning rates" in plan
    assert "and up to 3 on all training images for 200 epochs" in plan


def test_a_training_on_all_images_that_diverges_is_told(make_run: MakeRun) -> None:
    run = short(make_run, "herding", evaluate__whole_lr=1e30)
    with pytest.raises(UserError, match=r"diverged; lower evaluate\.whole_lr"):
        pipeline.evaluate(run)
    assert not list(run.settings.runtime.work_dir.glob("baselines-*/*.npz"))


def test_a_network_without_features_is_refused_before_it_is_trained(
    make_run: MakeRun, trainings: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def convolutions(channels: int, classes: int, resolution: int, **_: object) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, classes, resolution), nn.Flatten())

    monkeypatch.setattr(mlp, "build", convolutions)
    run = short(make_run, "herding", evaluate__whole_arch="mlp")
    pipeline.distill(run)
    with pytest.raises(UserError, match=r"does not end in a linear layer.* --set evaluate\.whole_arch=convnet"):
        pipeline.evaluate(run)
    assert trainings == []


def test_another_network_selects(make_run: MakeRun) -> None:
    with pytest.raises(UserError, match="unknown architecture 'nothing'"):
        make_run(evaluate__whole_arch="nothing")
