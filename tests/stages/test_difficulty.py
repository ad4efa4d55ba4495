"""How hard images are: by networks or a file; what experts and sets make of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attcli import runtime
from attcli.errors import OutOfTimeError, UserError
from attcli.matching.parameters import vector
from attcli.scoring import difficulty as by_networks
from attcli.scoring import training
from attcli.scoring.training import StoppedError
from attcli.stages import difficulty, distill, expert_training, identity, inputs, pipeline
from attcli.stages.run import Run, differences
from attcli.store import dataset, experts, states, synthetic
from tests.matching.cases import case

NETWORKS: dict[str, object] = {"buffer__difficulty_networks": 2, "buffer__difficulty_epochs": 2}
EASY: dict[str, object] = {"buffer__curriculum": "easy-first", **NETWORKS}


def test_the_norm_of_the_error_is_that_of_its_definition() -> None:
    found = case(4)
    norms = by_networks.error_norms(found.student, found.start, found.images, found.labels)
    outputs = found.student.logits(found.start, found.images).detach().double()
    wanted = [
        float((F.softmax(o, 0) - F.one_hot(y, 10)).pow(2).sum().sqrt())
        for o, y in zip(outputs, found.labels, strict=True)
    ]
    assert norms.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("numbers", [1, 1 << 24])
def test_the_norm_of_the_gradient_is_that_of_each_image(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(by_networks, "GRADIENTS", numbers)
    found = case(4)
    norms = by_networks.gradient_norms(found.student, found.start, found.images, found.labels)
    theta = found.start.clone().requires_grad_()
    outputs = found.student.logits(theta, found.images)
    losses = F.cross_entropy(outputs, found.labels, reduction="none")
    wanted = [float(torch.autograd.grad(loss, theta, retain_graph=True)[0].norm()) for loss in losses]
    assert norms.tolist() == pytest.approx(wanted, rel=1e-4)


def test_experts_on_a_curriculum_are_others_and_its_networks_are_trained_once(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, run = make_run(), make_run(**EASY, runtime__artifacts=str(make_run().settings.runtime.artifacts) + "-easy")
    pipeline.buffer(plain)
    pipeline.buffer(run)
    rows = [experts.read(experts.path(each.experts, 0))[1].parameters for each in (plain, run)]
    assert np.array_equal(rows[0][0], rows[1][0])
    assert not np.array_equal(rows[0][1], rows[1][1])
    (folder,) = run.settings.runtime.work_dir.glob("difficulty-*")
    assert sorted(path.name for path in folder.glob("*.npz")) == ["network-0000.npz", "network-0001.npz"]
    monkeypatch.setattr(difficulty, "judged", lambda *_: pytest.fail("it was kept"))
    data = dataset.read(run.dataset)
    found = difficulty.scores(run, data)
    assert found.shape == data.labels["train"].shape
    assert found.min() >= 0
    assert found.max() <= 2**0.5
    forgotten = difficulty.scores(make_run(**EASY, buffer__difficulty="forgetting"), data)
    assert forgotten.max() > 1
    monkeypatch.undo()
    one: dict[str, object] = {"buffer__difficulty_networks": 1, "buffer__difficulty_epochs": 1}
    by_gradients = difficulty.scores(make_run(**one, buffer__difficulty="grand"), data)
    assert by_gradients.shape == found.shape
    assert by_gradients.min() > 0
    assert len(list(run.settings.runtime.work_dir.glob("difficulty-*"))) == 2  # as it takes longer, it is apart
    assert np.corrcoef(found, forgotten)[0, 1] > 0.3  # both say how hard images are


def test_a_short_batch_of_a_later_epoch_has_its_own_statistics(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Of 300 images the first epoch takes 150, which are one batch; the second one has batches of 256 and of 44."""
    np.savetxt(tmp_path / "scores.txt", np.arange(300) % 7)
    few: dict[str, object] = {"prepare__limit_per_class": 30, "prepare__validation": 0, "network__arch": "convnetbn"}
    easy = {**EASY, "buffer__difficulty": str(tmp_path / "scores.txt"), "buffer__curriculum_start": 0.5}
    run = make_run(**few, **easy, buffer__curriculum_growth=1, buffer__experts=1, buffer__augment="none")
    pipeline.buffer(run)
    data, rows = dataset.read(run.dataset), experts.read(experts.path(run.experts, 0))[1].parameters
    architecture = inputs.architecture(run.settings.network, data.about)
    curriculum = difficulty.curriculum(run, data)
    assert curriculum is not None
    assert [curriculum.count(epoch) for epoch in (0, 1)] == [150, 300]
    images = data.network_inputs("train", torch.device("cpu"), torch.float32)
    generator = runtime.stream(run.settings.seed_of("buffer"), "expert-epoch", 0, 1)
    module, met = architecture.build(), curriculum.epoch(1)
    nn.utils.vector_to_parameters(torch.from_numpy(rows[1].copy()), module.parameters())
    descent = torch.optim.SGD(module.parameters(), lr=run.settings.buffer.lr)
    for index in met[torch.randperm(300, generator=generator)].split(256):
        descent.zero_grad()
        F.cross_entropy(module(images[index]), data.labels["train"][index]).backward()
        descent.step()
    assert np.abs(vector(module).numpy() - rows[2]).max() < 1e-5


def test_only_a_batch_that_there_is_can_be_of_a_single_image() -> None:
    assert expert_training.short_batch([150, 300], 256) == 44
    assert expert_training.short_batch([150, 301], 256) == 45  # one more than twice the smallest epoch
    assert expert_training.short_batch([150, 257], 256) == 1
    assert expert_training.short_batch([1, 300], 256) == 1
    assert expert_training.short_batch([300, 600], 300) == 0


def test_a_file_of_scores_is_known_by_its_content(make_run: Callable[..., Run], tmp_path: Path) -> None:
    plain = make_run()
    pipeline.prepare(plain)
    count = len(dataset.read(plain.dataset).labels["train"])
    made = []
    for values in (np.arange(count), np.arange(count)[::-1]):
        np.savetxt(tmp_path / "scores.txt", values)
        run = make_run(buffer__curriculum="easy-first", buffer__difficulty=str(tmp_path / "scores.txt"))
        assert difficulty.scores(run, dataset.read(run.dataset)).tolist() == values.tolist()
        made.append(identity.buffer(run.settings, "")[0])
    assert len({*made, identity.buffer(plain.settings, "")[0]}) == 3
    np.save(tmp_path / "few.npy", np.arange(3))
    data = dataset.read(plain.dataset)
    with pytest.raises(UserError, match=rf"few.npy holds 3 numbers, and there are {count} training images"):
        difficulty.scores(make_run(buffer__difficulty=str(tmp_path / "few.npy")), data)
    np.save(tmp_path / "nan.npy", np.r_[np.nan, np.arange(count - 1)])
    with pytest.raises(UserError, match=r"finite"):
        difficulty.scores(make_run(buffer__difficulty=str(tmp_path / "nan.npy")), data)
    (tmp_path / "words.txt").write_text("easy\nhard\n")
    with pytest.raises(UserError, match=r"words.txt does not hold scores of images"):
        difficulty.scores(make_run(buffer__difficulty=str(tmp_path / "words.txt")), data)
    (tmp_path / "archive.npy").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match=r"archive.npy does not hold scores of images"):
        difficulty.scores(make_run(buffer__difficulty=str(tmp_path / "archive.npy")), data)
    missing = make_run(buffer__curriculum="easy-first", buffer__difficulty="el2")
    with pytest.raises(
        UserError, match=r"buffer.difficulty el2 cannot be read .*buffer.difficulty to one of: el2n, grand, forgetting"
    ):
        identity.buffer(missing.settings, "")


def test_older_experts_are_those_without_a_curriculum(make_run: Callable[..., Run]) -> None:
    run = make_run(**NETWORKS)  # which nothing reads
    assert identity.buffer(run.settings, "") == identity.buffer(make_run().settings, "")
    assert not {"curriculum", "difficulty"} & identity.making_of_experts(run.settings).keys()
    ranked = make_run(distill__init="ranked")
    assert identity.buffer(ranked.settings, "") == identity.buffer(run.settings, "")


@pytest.mark.cpu
@pytest.mark.parametrize("more", [{}, {"distill__parameterisation": "multiformation"}])
def test_a_set_of_ranked_images_of_which_some_stay_as_they_are(
    make_run: Callable[..., Run], tmp_path: Path, more: dict[str, object]
) -> None:
    scores = tmp_path / "scores.npy"
    changes: dict[str, object] = {"distill__init": "ranked", "distill__rank_offset": 0.5, "distill__ipc": 2}
    changes |= {"distill__iterations": 2, "distill__syn_steps": 2, "distill__batch_syn": 20}
    changes |= {"distill__distilled_share": 0.5, "buffer__difficulty": str(scores), **more}
    prepared = make_run()
    pipeline.prepare(prepared)
    labels = dataset.read(prepared.dataset).labels["train"]
    np.save(scores, np.random.default_rng(0).permutation(len(labels)))
    run = make_run(**changes, prepare__limit_per_class=None)
    pipeline.distill(run)
    data = inputs.read_dataset(run)
    hardest = np.argsort(-np.load(scores))
    of_seven = hardest[labels.numpy()[hardest] == 7]
    before = _first_state(run, data)
    kept = synthetic.read(run.synthetic)
    each = len(kept.labels) // 10
    passed_over = int(0.5 * each)
    if not more:
        wanted = data.inputs("train", torch.from_numpy(of_seven[passed_over : passed_over + each].copy()))
        assert torch.equal(before[7 * each : 8 * each], wanted)
    for variant in kept.variants.values():
        moved = (variant - before).flatten(1).abs().amax(dim=1).view(10, -1)
        assert float(moved[:, : each // 2].max()) == 0
        assert float((moved[:, each // 2 :] > 0).float().mean()) > 0.5  # but those that no batch had
    mask = states.read(states.snapshots(run.snapshots)[-1], data.normaliser).constants["frozen"]
    assert mask.view(10, -1).tolist() == [[1] * (each // 2) + [0] * (each // 2)] * 10


@pytest.mark.parametrize("more", [{}, {"distill__parameterisation": "multiformation"}])
def test_learned_labels_of_images_that_stay_do_so_too(make_run: Callable[..., Run], more: dict[str, object]) -> None:
    run = make_run(
        **more, distill__ipc=2, distill__labels="learned", distill__distilled_share=0.5, distill__lr_labels=5
    )
    pipeline.buffer(run)
    trajectories = inputs.open_experts(run, inputs.read_dataset(run))
    loop, state = distill.begin(run, inputs.read_dataset(run), trajectories)
    after, _ = loop.iterate(state, loop.spans.ahead(0))
    trajectories.close()
    moved = (after.labels != state.labels).any(dim=1)
    assert torch.equal(moved, ~state.constants["frozen"].bool())


def _first_state(run: Run, data: dataset.Dataset) -> torch.Tensor:
    trajectories = inputs.open_experts(run, data)
    loop, state = distill.begin(run, data, trajectories)
    trajectories.close()
    return loop.coding.images(state.coded(), state.scales)


def test_a_rank_that_leaves_too_few_images_is_refused(make_run: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match=r"distill.rank_offset 40.0 passes over 200 images of each class, which leaves"):
        make_run(distill__init="ranked", distill__rank_offset=40, distill__ipc=5)


def test_a_set_of_ranked_images_is_compared_by_the_settings_of_the_networks(make_run: Callable[..., Run]) -> None:
    ranked: dict[str, object] = {"distill__init": "ranked", **NETWORKS}
    first = identity.distillation(make_run(**ranked).settings)
    assert first == identity.distillation(make_run(**ranked, distill__iterations=9).settings)
    other = identity.distillation(make_run(**ranked, buffer__lr=0.07).settings)
    assert differences(first, other) == [
        "buffer.lr is 0.05 there, 0.07 asked for",
    ]
    more = identity.distillation(make_run(**{**ranked, "buffer__difficulty_networks": 3}).settings)
    assert differences(first, more) == ["buffer.difficulty_networks is 2 there, 3 asked for"]


def test_a_time_limit_keeps_what_networks_have_said(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    class Judges:
        def __init__(self, run: Run, data: dataset.Dataset, folder: Path) -> None:
            self._count = len(data.labels["train"])

        def key(self, number: int) -> by_networks.Judge:
            return 0, difficulty.PURPOSE, number

        def judgement(self, number: int, stop: object) -> dict[str, torch.Tensor]:
            trained.append(number)
            said = torch.full((self._count,), float(len(trained)), dtype=torch.float64)
            return {"el2n": said, "forgetting": said}

    monkeypatch.setattr(difficulty, "_Judges", Judges)
    run = make_run(buffer__difficulty_networks=3)
    pipeline.prepare(run)
    data = dataset.read(run.dataset)
    for limited in (1, 2):
        with pytest.raises(OutOfTimeError, match=f"{limited} of 3 networks have judged the images"):
            difficulty.scores(replace(run, time_limit=0.0), data)
        assert len(trained) == limited  # one under any limit
    (folder,) = run.settings.runtime.work_dir.glob("difficulty-*")
    content = bytearray((folder / "network-0001.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] ^= 1  # it calls itself encrypted
    (folder / "network-0001.npz").write_bytes(content)
    assert difficulty.scores(run, data).unique().tolist() == [(1 + 3 + 4) / 3]
    assert trained == [0, 1, 1, 2]
    assert list(folder.glob("network-0001.npz.damaged*"))


@pytest.mark.parametrize("score", ["el2n", "forgetting"])
def test_a_network_that_was_stopped_goes_on_and_says_the_same(
    score: str, make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {"buffer__difficulty": score, "buffer__difficulty_networks": 1}
    run, other = (make_run(tmp_path / name, **asked, buffer__difficulty_epochs=5) for name in ("a", "b"))
    pipeline.prepare(run)
    data = dataset.read(run.dataset)
    folder = run.work("difficulty", identity.difficulty(run.settings, data.sha256)[0])
    folder.mkdir(parents=True)
    answers = iter([False, False, False, True])
    with pytest.raises(StoppedError):
        difficulty._Judges(run, data, folder).judgement(0, lambda: next(answers))
    assert len(list(folder.glob("training-*.h5"))) == 1
    passes: list[int] = []
    real = training.train_epoch
    monkeypatch.setattr(training, "train_epoch", lambda *of, **more: (passes.append(1), real(*of, **more))[1])
    found = difficulty.scores(run, data)
    assert len(passes) == 2
    assert not list(folder.glob("training-*"))
    assert torch.equal(found, difficulty.scores(other, data))
    assert len(passes) == 7
