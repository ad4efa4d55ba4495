"""What --dry-run says of a command: the stages it goes through, what exists, and what the rest costs."""

import re
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from attcli import execution, runtime
from attcli.data import decoding, readers
from attcli.matching.student import Student
from attcli.networks import Architecture
from attcli.settings import resolve
from attcli.stages import cost, forecast, pipeline, plan
from attcli.stages.rates import Rates
from attcli.stages.run import Run
from tests.conftest import Cli
from tests.faults.faulty import room_for

Disk = namedtuple("Disk", "total used free")
MakeRun = Callable[..., Run]


def test_operations_are_those_of_the_work_that_is_left(make_run: MakeRun) -> None:
    settings = make_run().settings
    network = forecast.networks_of(make_run(), "buffer")[0]
    image = execution.flops(network.build, execution.Work((1, 8, 8), 10, 1, 1))
    train = 1347 - settings.prepare.validation
    assert cost.buffer(settings, 6).operations == 6 * train * image
    assert cost.buffer(make_run(buffer__trainer="ftd").settings, 6).operations == 2 * 6 * train * image
    assert cost.buffer(make_run(prepare__limit_per_class=20, buffer__batch=64).settings, 1).operations == 100 * image
    # A step of the student: four times a gradient's operations, on ten images, five times an iteration.
    assert cost.distill(settings, 3).operations == 3 * 5 * 10 * 4 * image
    # A network sees ten images four times; then it is tested, where an image takes a sweep forward, a third of a step.
    assert cost.evaluate(settings, [(network, 7)], 10, 256, 4).operations == 7 * (4 * 10 + 450 / 3) * image


def test_epochs_of_a_score_are_not_those_of_experts(make_run: MakeRun) -> None:
    few, many = (make_run(evaluate__epochs=epochs).settings for epochs in (1, 1000))
    assert cost.buffer(few, 6) == cost.buffer(many, 6)


@pytest.mark.cpu
def test_an_estimate_is_near_what_the_operations_take(make_run: MakeRun) -> None:
    """Within a factor of five of gradients that are timed here, which is as much as a busy machine allows."""
    settings = make_run(network__width=32).settings
    rates = Rates(settings)
    estimated = rates.seconds(cost.buffer(settings, 1))
    network = forecast.networks_of(make_run(network__width=32), "buffer")[0]
    student = Student.of(network.build())
    theta = torch.zeros(student.layout.size)
    x, p, w = torch.zeros(32, 1, 8, 8), torch.full((32, 10), 0.1), torch.full((32,), 1 / 32)
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        student.gradient(theta, x, p, w)
        times.append(time.perf_counter() - begun)
    taken = min(times) * 1247 / 32
    assert taken / 5 < estimated < taken * 5


def test_a_network_of_known_size() -> None:
    convnet = Architecture("convnet", 3, 10, 32, {"depth": 3, "width": 128})
    assert cost.parameters(convnet) == 320_010
    # Three blocks of convolution, norm and ReLU at 32, 16 and 8 pixels, each with its pooling; flattened; classified.
    sides = ((32, 16), (16, 8), (8, 4))
    assert cost._activations(convnet) == sum(128 * (3 * a * a + b * b) for a, b in sides) + 128 * 16 + 10


def stages(plan: str) -> list[str]:
    return [line.split()[0] for line in plan.splitlines()]


def test_each_command_says_what_it_goes_through(cli: Cli) -> None:
    assert stages(cli.small("prepare", "--dry-run")) == ["prepare", "total"]
    assert stages(cli.small("buffer", "--dry-run")) == ["prepare", "buffer", "total", "times"]
    assert stages(cli.small("distill", "--dry-run")) == ["prepare", "buffer", "distill", "total", "times"]
    assert stages(cli.small("evaluate", "--dry-run")) == ["prepare", "buffer", "distill", "evaluate", "total", "times"]
    assert stages(cli.small("buffer", "--dry-run", "--no-auto")) == ["buffer", "total", "times"]
    cli.small("distill")
    assert stages(cli.small("distill", "--dry-run")) == ["prepare", "buffer", "distill"]
    assert stages(cli.small("evaluate", "--dry-run")) == ["evaluate", "total", "times"]
    shutil.copy("artifacts/synthetic.h5", "set.h5")
    assert stages(cli.small("evaluate", "set.h5", "--dry-run", "--artifacts", "elsewhere")) == [
        "prepare", "evaluate", "total", "times",
    ]  # fmt: skip
    assert not Path("elsewhere").exists()
    plan = cli.small("evaluate", "--snapshots", "--dry-run")
    # The last one, three on validation images, and two at most that are the best there.
    assert "up to 24 networks for 3 snapshots (convnet; 2 repeats; 4 epochs)" in plan


def test_fresh_work_is_planned_anew(cli: Cli) -> None:
    cli.small("evaluate")
    for stage in ("prepare", "buffer", "distill", "evaluate"):
        for words, is_done in (([], True), (["--fresh"], False)):
            (line,) = [x for x in cli.small(stage, *words, "--dry-run").splitlines() if x.startswith(stage)]
            assert ("nothing to do" in line) == is_done


def test_what_needs_no_experts_is_planned_by_what_is_done(cli: Cli) -> None:
    words = ("distill", "--set", "distill.method=dm", "--set", "distill.lr_img=1", "--iterations")
    cli.small(*words, "4")
    assert "distill   nothing to do: 4 iterations (dm" in cli.small(*words, "4", "--dry-run")
    assert "distill   would run 2 of 6 iterations (dm" in cli.small(*words, "6", "--dry-run")


def test_batches_of_networks_that_normalise_over_them_are_whole(make_run: MakeRun) -> None:
    plain, normalised = (make_run(network__arch=arch, buffer__batch=200).settings for arch in ("convnet", "convnetbn"))
    assert (cost.buffer(plain, 1).slice, cost.buffer(normalised, 1).slice) == (29, 200)  # in equal slices


def test_unrolled_graphs_tests_and_other_networks_are_counted(make_run: MakeRun) -> None:
    plain, unrolled = (
        make_run(distill__engine=engine, distill__syn_steps=50).settings for engine in ("adjoint", "unroll")
    )
    assert cost.distill(unrolled, 1).memory > 10 * cost.distill(plain, 1).memory
    small, large = (Architecture(arch, 1, 10, 8, {}) for arch in ("mlp", "convnet"))
    scores = cost.evaluate(plain, [(small, 1)], 10, 10, 100)
    many_tests = cost.evaluate(plain, [(small, 1)], 10, 10, 100, 20)
    assert many_tests.operations > 3 * scores.operations
    of_small, of_large = (cost.with_whole(plain, scores, [(network, 2)]).operations for network in (small, large))
    assert of_large - scores.operations > 5 * (of_small - scores.operations)


def test_work_that_is_kept_serves_another_results_folder(cli: Cli) -> None:
    cli.small("distill", "--iterations", "4")
    plan = cli.small("distill", "--artifacts", "other", "--dry-run").splitlines()
    assert re.match(r"prepare +would take other/dataset.h5 from .attcli/prepare-\w+, where it is kept$", plan[0])
    assert plan[1].startswith("buffer    nothing to do: 2 experts of 3 epochs")
    assert plan[2].startswith("distill   would run 2 of 6 iterations")
    plan = cli.small("distill", "--set", "prepare.validation=50", "--dry-run").splitlines()
    assert "BUT one with other settings is there (--force overwrites it, --artifacts DIR" in plan[0]
    assert plan[1].startswith("buffer    would train 2 experts of 3 epochs")  # those that are there saw other images
    assert plan[2].startswith("distill   would run 6 of 6 iterations")


def test_scores_that_are_kept_are_counted(cli: Cli) -> None:
    cli.small("evaluate", "--repeats", "1")
    kept = sorted(path.name for path in Path(".attcli").iterdir())
    plan = cli.small("evaluate", "--repeats", "3", "--archs", "convnet,mlp", "--dry-run")
    assert "would train 25 of 30 networks (convnet, mlp; 3 repeats" in plan
    shutil.copy("artifacts/synthetic.h5", "set.h5")
    for words in ((), ("set.h5",)):
        plan = cli.small("evaluate", *words, "--repeats", "1", "--dry-run")
        assert plan.startswith("evaluate  nothing to do: 5 networks (convnet; 1 repeat;")
        assert len(plan.splitlines()) == 1
    assert kept == sorted(path.name for path in Path(".attcli").iterdir())


def test_what_a_score_would_refuse_its_plan_refuses(cli: Cli) -> None:
    cli.small("distill")
    assert "was distilled with other settings" in cli.small("evaluate", "--ipc", "2", "--dry-run", code=2)


def test_time_and_memory_of_what_is_large(cli: Cli) -> None:
    plan = dict(line.split(maxsplit=1) for line in cli("evaluate", "--ipc", "50", "--dry-run").splitlines())
    assert re.search(r"of disk, about (a second|[\d.]+ (s|min)), about [\d.]+ GB of memory$", plan["prepare"])
    for stage in ("buffer", "distill", "evaluate"):
        assert re.search(r", about [\d.]+ (years|days|h|min), about [\d.]+ GB of memory$", plan[stage])


@pytest.mark.cpu
def test_the_first_line_names_every_network_with_its_size(cli: Cli) -> None:
    cli.small("distill")
    said = cli.small_log("evaluate", "--repeats", "1", "--archs", "convnet,mlp")
    assert "network convnet (1,026 parameters), mlp (26,122 parameters), on cpu" in said
    shutil.copy("artifacts/synthetic.h5", "set.h5")
    said = cli("evaluate", "set.h5", "--repeats", "1", "--dry-run")  # by the set's own network, not the recipe's
    assert "convnet; 1 repeat;" in said


def test_a_plan_to_score_a_set_is_for_its_own_images_and_network(cli: Cli) -> None:
    cli.small("distill")
    words = ("evaluate", "--repeats", "1", "--archs", "convnet", "--baselines", "whole", "--set", "evaluate.epochs=4")
    plan = cli(*words, "--dry-run")  # without the digits' settings: the recipe would be CIFAR-10's
    assert "days" not in plan
    assert " h" not in plan.split("times")[0]
    said = cli.small_log("evaluate", "--snapshots", "--repeats", "1")
    assert "evaluate: the set in artifacts/snapshots/iteration-0000006.h5, network convnet (1,026 parameters)" in said


def test_the_networks_of_a_set_are_the_files(make_run: MakeRun) -> None:
    run = make_run()
    pipeline.distill(run)
    wider = make_run(network__width=16)
    (network,) = forecast.networks_of(wider, "evaluate")
    assert network.options["width"] == 8


def test_what_is_no_set_is_refused_in_one_line_with_and_without_a_plan(cli: Cli) -> None:
    cli.small("prepare")
    Path("cut.h5").write_bytes(Path("artifacts/dataset.h5").read_bytes()[:1000])
    Path("notes.txt").write_text("no set")
    Path("taken").mkdir()
    for iteration in (2, 4):
        Path(f"taken/iteration-000000{iteration}.h5").touch()
    for name, message in (
        ("artifacts/dataset.h5", "is a file of kind 'dataset', not 'synthetic'"),
        ("artifacts", "artifacts is a folder; name the file in it"),
        ("taken", "taken is a folder; name the file in it, such as taken/iteration-0000004.h5"),
        ("cut.h5", "cut.h5 is damaged or cut short"),
        ("notes.txt", "notes.txt is no file of attcli"),
        ("missing.h5", "missing.h5 is missing; name a file that exists"),
    ):
        for words in ((), ("--dry-run",)):
            said = cli.small("evaluate", name, *words, code=2).splitlines()
            assert message in said[-1]
            assert said[-1].startswith("attcli: ")
    Path("artifacts/dataset.h5").unlink()
    Path("artifacts/dataset.h5").write_bytes(Path("cut.h5").read_bytes())
    assert "run `attcli prepare`" in cli.small("distill", "--dry-run", code=2)


def test_a_plan_says_what_the_set_costs(cli: Cli) -> None:
    plan = cli("distill", "--method", "att+multiformation+uint8", "--ipc", "1", "--dry-run")
    assert "16 images per class in 12,289 bytes (1.00 float32 images)" in plan
    plan = cli("distill", "--method", "fred", "--ipc", "1", "--dry-run")
    assert "16 images per class in 12,416 bytes (1.01 float32 images)" in plan
    soft = ("--set", "distill.labels=learned", "--set", "distill.label_storage=float16")
    plan = cli("distill", "--method", "att+multiformation+uint8", *soft, "--dry-run")
    assert "16 images per class in 12,609 bytes (1.03 float32 images)" in plan
    assert "1 image per class in 12,288 bytes (1.00 float32 images)" in cli("distill", "--ipc", "1", "--dry-run")


def test_the_cost_counts_the_images_that_are_decoded(make_run: MakeRun) -> None:
    plain, many = make_run().settings, make_run(distill__parameterisation="multiformation").settings
    assert cost.distill(many, 3).operations == 4 * cost.distill(plain, 3).operations


def test_the_total_is_told_with_what_is_free(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "free_memory", lambda: 9e9)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda folder: Disk(0, 0, 8e9))
    asked = ("distill", "--dry-run", "--device", "cpu", "--dataset", "cifar10", "--ipc", "10")
    (line,) = [line for line in cli(*asked).splitlines() if line.startswith("total")]
    found = re.fullmatch(
        r"total +about (\d) GB of disk \(8 GB are free\), about (\d+ [MG]B) of memory \(9 GB are free\), "
        r"about [\d.]+ \w+",
        line,
    )
    assert found, line
    written = (50_000 + 10_000) * 3072 + 4 * 3072**2  # the images and the matrix of ZCA
    written += 100 * 22 * 320_010 * 4  # the experts
    written += 600 * 3 * 100 * 3072 * 4  # the snapshots
    assert float(found[1]) * 1e9 == pytest.approx(written, abs=1e9)
    monkeypatch.setattr(runtime, "free_memory", lambda: 1e6)
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda folder: Disk(0, 0, 2e9))
    output = cli(*asked)
    assert "GB of disk, MORE THAN the 2 GB that are free" in output
    assert "B of memory, MORE THAN the 1 MB that are free" in output


def test_preparing_image_files_is_timed_by_decoding_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    asked = {"prepare.dataset": "folder", "runtime.data_dir": tmp_path, "runtime.work_dir": tmp_path.with_name("work")}
    settings = resolve(
        {**asked, "prepare.normalise": "standardise", "buffer.batch": 2}, environ={}, ignore_params=True
    ).settings
    decoded = []

    def decode(files: list[str], *how: object) -> None:
        decoded.extend(files)
        time.sleep(0.02)

    monkeypatch.setattr(decoding, "decode_each", decode)
    planned = cost.prepare(settings)
    assert len(set(decoded)) == 6
    assert planned.seconds is not None
    assert 6 * 0.02 <= planned.seconds < 6 * 0.2
    assert planned.doubles == 200 * 6 * 64
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    monkeypatch.setattr(readers, "WORTHWHILE", 4)
    assert readers.at_once(3) == 1
    assert readers.at_once(4) == 4


def test_image_files_that_are_missing_give_no_time(cli: Cli) -> None:
    lines = cli("prepare", "--dataset", "imagenette", "--dry-run").splitlines()
    assert "but its images are missing" in lines[0]
    assert "; how long it takes is not estimated" in lines[0]
    assert lines[1].endswith("a time that is not estimated")


def test_a_set_is_planned_with_its_own_images(cli: Cli) -> None:
    cli.small("distill")
    Path("artifacts/synthetic.h5").rename("set.h5")
    shutil.rmtree(".attcli")
    for words in (("set.h5", "--artifacts", "elsewhere"), ("--set", "evaluate.repeats=1")):
        plan = cli("evaluate", *words, "--dry-run")
        assert "from scikit-learn's handwritten digits" in plan.splitlines()[0]
        shutil.copy("set.h5", "artifacts/synthetic.h5")
        Path("artifacts/dataset.h5").unlink(missing_ok=True)


def test_preparing_a_known_dataset_is_timed_by_its_numbers() -> None:
    def prepared(**flags: object) -> cost.Cost:
        asked = {name.replace("__", "."): value for name, value in flags.items()}
        return cost.prepare(resolve(asked, environ={}, ignore_params=True).settings)

    plain = prepared(prepare__dataset="cifar10", prepare__normalise="standardise")
    assert plain.doubles == 200 * 60_000 * 3072
    whitened = prepared(prepare__dataset="cifar10", prepare__normalise="zca")
    assert whitened.doubles == plain.doubles + 2 * 50_000 * 3072**2 + 11 * 3072**3


def test_a_plan_where_memory_is_too_small_is_timed_on_fewer_images_or_says_so(cli: Cli) -> None:
    with room_for(3):
        assert "GFLOP/s" in cli.small("buffer", "--dry-run")
    with room_for(0):
        told = cli.small("buffer", "--dry-run", code=2)
    assert "too little memory for one image at a time" in told
    assert "choose a smaller network" in told


def test_networks_side_by_side_take_their_part_of_the_time(make_run: Callable[..., Run]) -> None:
    rates = Rates(make_run().settings)
    one = cost.Cost(memory=0, operations=1e9, slice=10, at_once=1)
    assert rates.seconds(replace(one, at_once=4)) == pytest.approx(rates.seconds(one) / 4)
