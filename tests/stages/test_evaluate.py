"""What is scored, on which images, and what the scores say."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attcli.errors import OutOfTimeError, UserError
from attcli.scoring import networks
from attcli.settings import resolve
from attcli.settings.layers import names
from attcli.stages import distill, evaluate, evaluation, pipeline
from attcli.stages.run import Run
from attcli.store import artefact, dataset, synthetic
from tests.conftest import Cli
from tests.stages.observed import logged, variants

MakeRun = Callable[..., Run]


def test_scores_have_the_stated_form(make_run: MakeRun) -> None:
    run = make_run(evaluate__archs="convnet,mlp")
    report = pipeline.evaluate(run)
    written = json.loads(run.scores.read_text()) | json.loads(run.scores.with_name("scores-about.json").read_text())
    assert written == json.loads(json.dumps(report))
    assert set(report["scores"]) == {"convnet", "mlp"}
    for row in report["scores"].values():
        assert set(row) == {"synthetic", "ema", "random"}
        for entry in row.values():
            assert set(entry) == {"mean", "sd", "n", "accuracies", "per_class", "confusion"}
            assert 0 <= entry["mean"] <= 100
            assert entry["n"] == 2
    assert report["protocol"]["epochs"] == 4


def test_another_learning_rate_is_for_the_set_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = pipeline.evaluate(make_run())
    other = pipeline.evaluate(make_run(evaluate__lr=0.5))
    assert other["protocol"]["lr"] == 0.5
    assert other["set"]["lr"] == learned["set"]["lr"] == learned["protocol"]["lr"]
    before, after = learned["scores"]["convnet"], other["scores"]["convnet"]
    assert before["random"] == after["random"]
    assert before["synthetic"] != after["synthetic"]
    monkeypatch.setattr(networks, "train", None)
    assert pipeline.evaluate(make_run()) == learned


def test_a_set_with_another_normaliser_has_other_results(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    data, own = dataset.read(run.dataset), synthetic.read(run.synthetic)
    normaliser = {**own.about["normaliser"], "sha256": "1" * 64}
    other = replace(own, about={**own.about, "normaliser": normaliser})
    folders = {evaluation.results_of(run, one, "test", data).folder for one in (own, other)}
    assert len(folders) == 2
    of_seed = {evaluation.results_of(make_run(evaluate__seed=seed), own, "test", data).folder for seed in (0, 1)}
    assert len(of_seed) == 2


def test_sd_is_that_of_a_sample() -> None:
    assert evaluate.summary([1.0, 2.0, 4.0]) == {
        "mean": 2.3333, "sd": 1.5275, "n": 3, "accuracies": [1.0, 2.0, 4.0],
    }  # fmt: skip
    assert evaluate.summary([5.0]) == {"mean": 5.0, "sd": None, "n": 1, "accuracies": [5.0]}


def test_a_set_is_scored_from_its_file_alone(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    here = pipeline.evaluate(run)
    away = make_run(tmp_path / "away")
    shutil.copy(run.synthetic, tmp_path / "set.h5")
    assert pipeline.evaluate(away, tmp_path / "set.h5") == here
    changes = {"prepare__validation": 0, "buffer__batch": 64, "prepare__dataset": "cifar10"}
    third = make_run(tmp_path / "third", **changes)
    with pytest.raises(UserError, match=r"other settings \(buffer\.batch is 256 there, 64 asked for; prepare\.d"):
        pipeline.evaluate(third, tmp_path / "set.h5")
    # Nothing asked for: the set's own dataset is prepared.
    fourth = make_run(tmp_path / "fourth", **changes)
    unasked = replace(fourth, origin=dict.fromkeys(names(), "default") | {"evaluate.repeats": "flag"})
    assert pipeline.evaluate(unasked, tmp_path / "set.h5")["scores"] == here["scores"]
    assert dataset.read(fourth.dataset).about["dataset"] == "digits"


def test_images_and_experts_that_are_asked_for_otherwise_are_refused(make_run: MakeRun) -> None:
    pipeline.distill(make_run())
    for name, value in (("prepare__validation", 50), ("prepare__normalise", "zca"), ("buffer__trainer", "ftd")):
        with pytest.raises(UserError, match=rf"other settings \(.*{name.replace('__', '[.]')} is "):
            pipeline.evaluate(make_run(**{name: value}))


def test_experts_are_compared_only_where_they_were_asked_for(cli: Cli) -> None:
    np.save("hard.npy", np.arange(1247.0))
    by_file = ("--set", "buffer.curriculum=easy-first", "--set", "buffer.difficulty=hard.npy", "--artifacts", "easy")
    cli.small("distill", *by_file)
    Path("hard.npy").unlink()
    cli.small("distill", "--artifacts", "plain", "--set", "buffer.waypoints=3")
    files = ("easy/synthetic.h5", "plain/synthetic.h5")
    for file, setting, there in zip(files, ("curriculum=none", "waypoints=null"), ("easy-first", "3"), strict=True):
        line = cli("evaluate", file, "--set", f"buffer.{setting}", code=2)
        name, _, value = setting.partition("=")
        assert f"buffer.{name} is {there} there, {value} asked for" in line
    words = ("--dry-run", "--artifacts", "plain", "--set")
    for same in ("buffer.epochs=9", "buffer.lr=0.05"):  # longer experts begin as those of the set
        assert "evaluate  would train" in cli("evaluate", "plain/synthetic.h5", *words, same)
    line = cli("evaluate", "plain/synthetic.h5", *words, "buffer.imported=sha256:0123456789abcdef", code=2)
    assert "(buffer.imported is null there, sha256:0123456789abcdef asked for)" in line


@pytest.mark.cpu
def test_random_images_are_fresh_each_repeat_and_as_many(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(distill__ipc=2)
    pipeline.distill(run)
    met = []
    real = networks.train

    def note(steps, theta, images, labels, classes, lr, protocol, key, *rest):
        met.append((images, labels, key[2]))
        return real(steps, theta, images, labels, classes, lr, protocol, key, *rest)

    monkeypatch.setattr(networks, "train", note)
    pipeline.evaluate(run)
    randoms = [entry for entry in met if len(met) and not any(torch.equal(entry[0], v) for v in variants(run))]
    assert len(randoms) == 2 * 3
    first, second = ([entry[0] for entry in randoms if entry[2] == repeat] for repeat in range(2))
    assert torch.equal(first[0], first[1])  # the same images at every learning rate
    assert not torch.equal(first[0], second[0])
    assert randoms[0][1].bincount().tolist() == [2] * 10


def test_the_scores_of_another_set_are_not_the_results(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.evaluate(run)
    before = run.scores.read_bytes()
    pipeline.distill(make_run(tmp_path / "other", distill__lr_img=2.0))
    unasked = replace(run, origin=dict.fromkeys(names(), "default"))
    pipeline.evaluate(unasked, tmp_path / "other" / "artifacts" / "synthetic.h5")
    assert run.scores.read_bytes() == before


def test_fewer_iterations_than_asked_for_are_scored_with_a_warning(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=3)
    first = pipeline.evaluate(run)
    with logged() as lines:
        assert pipeline.evaluate(make_run()) == first
    assert "is from iteration 3 of 6; it is scored as it is, `attcli distill` continues it" in lines[0]
    with logged() as lines:
        pipeline.evaluate(run)
    assert lines == []


def test_what_was_asked_for_has_to_be_what_the_set_is(make_run: MakeRun) -> None:
    run = make_run(distill__iterations=3)
    pipeline.evaluate(run)
    other = make_run(distill__lr_img=2.0, distill__iterations=3)
    with pytest.raises(UserError, match=r"other settings \(distill\.lr_img is 1\.0 there, 2\.0 asked for\)"):
        pipeline.evaluate(other)
    by_recipe = replace(other, origin=dict.fromkeys(names(), "recipe att/digits/ipc1"))
    with logged() as lines:
        pipeline.evaluate(by_recipe)  # nobody asked for that learning rate
    assert lines == []
    in_a_file = replace(other, origin=dict.fromkeys(names(), "own.conf"), params=Path("own.conf"))
    with pytest.raises(UserError, match=r"distill\.lr_img is 1\.0 there, 2\.0 asked for"):
        pipeline.evaluate(in_a_file)
    pipeline.evaluate(in_a_file, run.synthetic)  # a file that is named is not the one that params.yaml is about


def test_a_set_is_scored_by_its_own_protocol(make_run: MakeRun, tmp_path: Path) -> None:
    own = {"evaluate__batch": 7, "evaluate__momentum": 0.5, "evaluate__weight_decay": 0.1, "evaluate__epochs": 3}
    run = make_run(tmp_path / "own", **own, evaluate__protocol="released")
    own_scores = pipeline.evaluate(run)
    plain = make_run(tmp_path / "away")
    unasked = replace(plain, origin=dict.fromkeys(names(), "recipe"))
    report = pipeline.evaluate(unasked, run.synthetic)
    wanted = {"name": "released", "epochs": 3, "batch": 7, "momentum": 0.5, "weight_decay": 0.1}
    assert {name: report["protocol"][name] for name in wanted} == wanted
    assert report["scores"] == own_scores["scores"]
    asked = replace(unasked, origin={**unasked.origin, "evaluate.epochs": "flag"})
    assert pipeline.evaluate(asked, run.synthetic)["protocol"]["epochs"] == 4
    assert pipeline.evaluate(asked, run.synthetic)["protocol"]["batch"] == 7


def test_a_recipes_protocol_is_in_the_sets_file() -> None:
    flags = {"distill.method": "datm", "prepare.dataset": "cifar10", "distill.ipc": 50}
    settings = resolve(flags, environ={}, ignore_params=True).settings
    data = dataset.Dataset({"channels": 3, "resolution": 32}, None, {}, {}, "0" * 64)  # type: ignore[arg-type]
    assert distill._header(settings, data, "f", {}).about["protocol"]["batch"] == settings.evaluate.batch == 128


def test_other_rates_for_the_baseline_repeat_the_baseline_alone(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pipeline.evaluate(make_run())["scores"]["convnet"]
    trained: list[float] = []
    real_train = networks.train

    def counted(*inputs: object) -> object:
        trained.append(float(inputs[5]))  # type: ignore[arg-type]
        return real_train(*inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(networks, "train", counted)
    after = pipeline.evaluate(make_run(evaluate__random_lrs=(0.05,)))["scores"]["convnet"]
    assert len(trained) == 2 * 2
    assert {kind: after[kind] for kind in ("synthetic", "ema")} == {kind: before[kind] for kind in ("synthetic", "ema")}


def test_another_whitening_is_noticed(make_run: MakeRun) -> None:
    run = make_run(prepare__normalise="zca")
    pipeline.distill(run)
    run.normaliser.unlink()
    other = make_run(prepare__normalise="zca", prepare__validation=50)
    pipeline.prepare(replace(other, force=True))
    with pytest.raises(
        UserError, match=r"is normalised with sha256 .*, the set with .*, whose normaliser\.h5 is not beside"
    ):
        pipeline.evaluate(replace(other, origin=dict.fromkeys(names(), "default")))


def test_damaged_scores_are_set_aside(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    run.scores.write_text("{half a report")
    with logged() as lines:
        pipeline.evaluate(run)
    assert any("scores.json is damaged" in line for line in lines)
    assert run.scores.with_name("scores.json.damaged").read_text() == "{half a report"
    assert "scores" in json.loads(run.scores.read_text())


def test_no_baseline_where_a_class_has_too_few_images(make_run: MakeRun) -> None:
    run = make_run(
        prepare__limit_per_class=20, prepare__validation=50, distill__ipc=17, distill__init="noise", buffer__batch=64
    )
    with logged() as lines:
        report = pipeline.evaluate(run)
    assert set(report["scores"]["convnet"]) == {"synthetic", "ema"}
    assert any("a class has 15 training images: too few" in line for line in lines)


def test_without_validation_the_baselines_learning_rate_is_chosen_on_other_training_images(make_run: MakeRun) -> None:
    report = pipeline.evaluate(make_run(prepare__validation=0))
    assert report["scores"]["convnet"]["random"]["n"] == 2


def test_the_zca_normaliser_travels_with_the_set(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "zca", prepare__normalise="zca")
    pipeline.distill(run)
    found = synthetic.read(run.synthetic)
    assert found.normaliser is not None
    assert found.normaliser.digest() == dataset.read(run.dataset).normaliser.digest()
    assert artefact.header(run.synthetic, "synthetic", "x").about["normaliser"]["eps"] == 0.1


def test_a_time_limit_ends_a_score_between_networks_and_the_next_call_goes_on(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.evaluate(make_run(tmp_path / "whole"))
    run = make_run(runtime__threads=1)
    pipeline.distill(run)
    trained = []
    real = networks.train

    def counted(*arguments):
        trained.append(real(*arguments))
        return trained[-1]

    monkeypatch.setattr(networks, "train", counted)
    monkeypatch.setattr(Run, "out_of_time", lambda self: self.time_limit is not None and len(trained) >= 3)
    with pytest.raises(OutOfTimeError, match="3 of 6 results are kept"):
        pipeline.evaluate(replace(run, time_limit=1.0))
    assert len(trained) == 3
    assert not run.scores.exists()
    with pytest.raises(OutOfTimeError, match="3 of 6 results are kept"):
        pipeline.evaluate(replace(run, time_limit=1.0))
    assert len(trained) == 3
    assert pipeline.evaluate(run)["scores"] == whole["scores"]
    assert len(trained) == 1 * 4 + 2 * 3  # one network for each score of the set, three for one of random images


def test_a_score_under_a_time_limit_goes_on_with_what_the_limit_ended(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    pipeline.buffer(run)
    ended = replace(run, time_limit=1e-9)
    with pytest.raises(OutOfTimeError, match="the set is not distilled yet"):
        pipeline.evaluate(ended)
    pipeline.distill(replace(ended, auto=False))  # one iteration, as the limit is over
    assert synthetic.read(run.synthetic).about["iteration"] == 1
    with pytest.raises(OutOfTimeError, match="the set is not distilled yet"):
        pipeline.evaluate(ended)
    assert synthetic.read(run.synthetic).about["iteration"] == 1  # and is not scored
    assert pipeline.evaluate(replace(run, time_limit=1e9))["set"]["iteration"] == 6


def test_a_distillation_that_evaluate_began_goes_on_before_it_is_scored(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, iterate = make_run(), distill.Loop.iterate
    made: list[None] = []

    def interrupted(*args: object, **options: object) -> object:
        made.append(None)
        if len(made) == 3:
            raise KeyboardInterrupt
        return iterate(*args, **options)

    monkeypatch.setattr(distill.Loop, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.evaluate(run)
    assert synthetic.read(run.synthetic).about["iteration"] < 6
    assert pipeline.evaluate(run)["set"]["iteration"] == 6
    made.clear()
    other = make_run(distill__iterations=12)
    with pytest.raises(KeyboardInterrupt):
        pipeline.distill(other)
    assert pipeline.evaluate(other)["set"]["iteration"] < 12  # the user's own `distill` is not gone on with


def test_fresh_scores_every_snapshot_anew(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run()
    pipeline.distill(run)
    trained, real = [], networks.train

    def counted(*arguments):
        trained.append(real(*arguments))
        return trained[-1]

    monkeypatch.setattr(networks, "train", counted)
    report = pipeline.evaluate_snapshots(run)
    first = len(trained)
    assert first >= 2 * 2 * len(report["snapshots"])
    assert pipeline.evaluate_snapshots(replace(run, fresh="evaluate")) == report
    assert len(trained) == 2 * first


def test_an_unfinished_set_by_a_recipe_is_scored_with_a_warning(make_run: MakeRun) -> None:
    pipeline.distill(make_run(distill__iterations=3))
    by_recipe = replace(make_run(), origin=dict.fromkeys(names(), "recipe att/digits/ipc1"))
    with logged() as lines:
        pipeline.evaluate(by_recipe)
    assert "is from iteration 3 of 6; it is scored as it is" in lines[0]


def test_a_score_says_where_it_is_written(cli: Cli) -> None:
    cli.small("evaluate", "--repeats", "1")
    shutil.copy("artifacts/synthetic.h5", "set.h5")
    for words, line in (
        ((), "the scores are in artifacts/scores.json, how they were made in scores-about.json beside it"),
        (("set.h5",), "no file is written for a set that is named; --json prints the scores"),
        (("--snapshots",), "the scores are in artifacts/snapshot-scores.json"),
    ):
        assert line in cli.small_log("evaluate", *words, "--repeats", "1")


def test_what_is_there_already_is_said_once(cli: Cli) -> None:
    cli.small("prepare")
    assert cli.small_log("distill", "--set", "runtime.verbosity=debug").count("is there already") == 1


def test_a_protocol_that_tests_on_the_way_says_the_largest_and_the_last(make_run: MakeRun) -> None:
    plain = pipeline.evaluate(make_run(evaluate__epochs=3, evaluate__repeats=2))
    assert "last" not in plain["scores"]["convnet"]["synthetic"]
    asked = {"evaluate__protocol": "ncfm", "evaluate__epochs": 110, "evaluate__baselines": ("random",)}
    report = pipeline.evaluate(make_run(**asked, evaluate__repeats=2))
    about = report["protocol"]
    assert (about["name"], about["epochs"], about["lr"], about["tests"]) == ("ncfm", 110, 0.001, 100)
    assert about["random_lrs"] == ()
    for entry in report["scores"]["convnet"].values():
        pairs = list(zip(entry["accuracies"], entry["last"]["accuracies"], strict=True))
        assert all(largest >= last for largest, last in pairs)
        assert sum(map(sum, entry["confusion"])) == 2 * about["test_images"]


def test_of_several_tests_the_largest_counts_and_the_last_is_told(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answers = networks.Networks.tested, itertools.cycle((90.0, 80.0))
    monkeypatch.setattr(networks.Networks, "tested", lambda self, *w: {**real(self, *w), "accuracy": next(answers)})
    asked: dict[str, object] = {"evaluate__protocol": "ncfm", "evaluate__epochs": 110, "evaluate__repeats": 1}
    report = pipeline.evaluate(make_run(**asked, evaluate__baselines=(), runtime__threads=1))
    for entry in report["scores"]["convnet"].values():
        assert (entry["accuracies"], entry["last"]["accuracies"]) == ([90.0], [80.0])


@pytest.mark.parametrize(("protocol", "rate"), [("idc", 0.01), ("selmatch", 0.1), ("exact", 0.02)])
def test_all_images_are_trained_on_at_the_protocols_rate_unless_one_is_asked_for(
    protocol: str, rate: float, make_run: MakeRun
) -> None:
    asked: dict[str, object] = {"evaluate__epochs": 1, "evaluate__whole_epochs": 1, "evaluate__repeats": 1}
    run = make_run(evaluate__protocol=protocol, **asked, evaluate__baselines="whole", evaluate__whole_lr=0.02)
    assert pipeline.evaluate(run)["protocol"]["whole"]["lr"] == 0.02
    origin = {**dict.fromkeys(names(), "flag"), "evaluate.whole_lr": "default"}
    assert pipeline.evaluate(replace(run, origin=origin))["protocol"]["whole"]["lr"] == rate


def test_idcs_protocol_tests_once_and_has_a_learning_rate_for_all(make_run: MakeRun) -> None:
    asked = {"evaluate__protocol": "idc", "evaluate__epochs": 3, "evaluate__baselines": ("random",)}
    report = pipeline.evaluate(make_run(**asked, evaluate__repeats=1))
    about = report["protocol"]
    assert (about["name"], about["lr"], about["random_lrs"], about.get("tests")) == ("idc", 0.01, (), None)
    assert all("last" not in entry for entry in report["scores"]["convnet"].values())


def test_a_rate_is_chosen_on_images_that_are_neither_trained_nor_tested_on(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = [], networks.Networks.accuracy

    def noted(self: networks.Networks, arch: object, theta: object, on: object, tested: tuple[object, object]) -> float:
        seen.append((on, tested[0]))
        return real(self, arch, theta, on, tested)

    monkeypatch.setattr(networks.Networks, "accuracy", noted)
    run = make_run(prepare__validation=0)
    pipeline.evaluate(run)
    test = {image.numpy().tobytes() for image in dataset.read(run.dataset).inputs("test")}
    assert seen
    for on, chosen_by in seen:
        judged = {image.numpy().tobytes() for image in chosen_by}
        assert judged
        assert not judged & {image.numpy().tobytes() for image in on}
        assert not judged & test
