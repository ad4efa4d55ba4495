"""Every parameterisation in every storage through the stages: distilled, resumed, written, read and scored."""

import itertools
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

import attcli
from attcli import coding
from attcli.errors import UserError
from attcli.stages import evaluate, pipeline
from attcli.stages.run import Run
from attcli.store import dataset, normaliser, states, synthetic
from tests.conftest import settings_in
from tests.parameterisations.test_contract import NAMES as PARAMETERISATIONS
from tests.stages.observed import contents, logged, states_of
from tests.storage.test_contract import NAMES as STORAGES

MakeRun = Callable[..., Run]
CODED = {"distill__frequencies": 16, "distill__scales_every": 2, "distill__scales_until": 4, "distill__code_groups": 8}
LEARNED = {"distill__labels": "learned", "distill__label_storage": "uint8"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all runs of this module share their dataset and experts."""
    return tmp_path_factory.mktemp("coded")


def run_in(shared: Path, name: str, **changes: object) -> Run:
    """A run with results of its own and work that all share."""
    return Run(settings_in(shared, runtime__artifacts=str(shared / name), **{**CODED, **changes}))


QUICK = [
    *((name, "codes") for name in PARAMETERISATIONS),
    *(("pixels", "float32"), ("frequency", "float16"), ("multiformation", "bfloat16")),
    *(("frequency", "float64"), ("pixels", "uint8"), ("multiformation", "uint8")),
]
PAIRS = [
    pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow, id="-".join(pair))
    for pair in itertools.product(PARAMETERISATIONS, STORAGES)
]


@pytest.mark.parametrize(("name", "kept_as"), PAIRS)
def test_a_set_is_resumed_and_read_as_it_was(shared: Path, name: str, kept_as: str) -> None:
    choice = {"distill__parameterisation": name, "distill__storage": kept_as}
    soft = LEARNED if kept_as in ("uint8", "codes") else {}
    whole = run_in(shared, f"{name}-{kept_as}", **choice, **soft)
    pipeline.distill(whole)
    state = states_of(whole)[-1]
    read = synthetic.read(whole.synthetic)
    decoder = states.coding_of(whole.synthetic, read.about, read.normaliser)
    seen = {"synthetic": decoder.images(state.coded(), state.scales)}
    seen["ema"] = decoder.images(state.coded(averaged=True), decoder.fit(state.averages))
    for variant, images in seen.items():
        if kept_as == "float64":  # which is decoded in more digits than a run in float32 has
            assert torch.allclose(read.variants[variant].float(), images, atol=1e-5)
        else:
            assert torch.equal(read.variants[variant], images)
    assert torch.equal(read.labels, states.labels_as_kept(decoder, state))
    in_snapshot = synthetic.read(states.snapshots(whole.snapshots)[-1], states.KIND)
    assert in_snapshot.kept_bytes == read.kept_bytes
    assert torch.equal(in_snapshot.labels, read.labels)

    halved = shared / f"{name}-{kept_as}-halved"
    for iterations in (3, 6):
        run = Run(settings_in(halved, distill__iterations=iterations, **CODED, **choice, **soft))
        pipeline.distill(run)
    assert contents(run) == contents(whole)


@pytest.mark.parametrize(("name", "kept_as"), PAIRS)
def test_the_file_holds_the_counted_bytes(shared: Path, name: str, kept_as: str) -> None:
    soft = LEARNED if kept_as in ("uint8", "codes") else {}
    run = run_in(shared, f"{name}-{kept_as}", **soft, distill__parameterisation=name, distill__storage=kept_as)
    pipeline.distill(run)
    read = synthetic.read(run.synthetic)
    counted = coding.planned(run.settings.distill, 1, 8).counted_bytes(1, 10, bool(soft))
    with h5py.File(run.synthetic) as file:
        arrays: dict[str, int] = {}
        file.visititems(lambda path, item: arrays.update({path: item[()].nbytes} if hasattr(item, "shape") else {}))
    own = {path: size for path, size in arrays.items() if not path.startswith(("ema/", "normaliser/"))}
    own["lr"] = 4
    if not soft:
        del own["labels"]  # classes follow from the order
    assert read.kept_bytes["synthetic"] == sum(own.values())
    if kept_as == "codes":
        packed = next(path for path in own if path.endswith("/codes") and path.startswith("synthetic/"))
        units = len(read.labels) // coding.planned(run.settings.distill, 1, 8).parameterisation.images_per_unit
        raw = -(-units * (16 if name == "frequency" else 64) * 4 // 8)
        assert counted - raw + own[packed] == read.kept_bytes["synthetic"]
        assert own[packed] <= raw
    else:
        assert counted == read.kept_bytes["synthetic"]
    assert read.size["images_per_class"] == read.about["images_per_class"]
    assert read.size["bytes_per_class"] == pytest.approx(read.kept_bytes["synthetic"] / 10, abs=0.051)
    assert read.size["float32_ipc"] == pytest.approx(read.kept_bytes["synthetic"] / 10 / 256, abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"distill__method": "datm", "distill__max_loss": 9.0, "distill__expansion_end": 2},
        {"distill__method": "att+datm", "distill__max_loss": 9.0, "distill__expansion_end": 2},
        {"distill__method": "mtt", "distill__engine": "unroll"},
        {"distill__method": "tesla", "distill__labels": "teacher"},
        {"distill__method": "ftd", "buffer__trainer": "ftd"},
        {"distill__init": "noise", "distill__optimiser": "adam", "distill__lr_img": 0.01},
        {"distill__init": "correct", "distill__batch_syn": 9},
        {"prepare__normalise": "zca"},
        pytest.param({"network__arch": "convnetbn", "network__depth": None}, marks=pytest.mark.slow),
        {"distill__precision": "float64"},
    ],
    ids=lambda changes: ",".join(f"{key.split('__')[1]}={value}" for key, value in changes.items()),
)
def test_coded_sets_go_with_every_other_choice(shared: Path, changes: dict[str, object]) -> None:
    for number, (name, kept_as) in enumerate((("multiformation", "codes"), ("frequency", "uint8"))):
        choice = {"distill__parameterisation": name, "distill__storage": kept_as, "distill__label_storage": "float16"}
        folder = f"{'-'.join(map(str, itertools.chain(*changes.items())))}-{number}"
        own = {"distill__iterations": 3, "distill__save_every": 1, "evaluate__repeats": 1}
        run = run_in(shared, folder, **own, **choice, **changes)
        pipeline.evaluate(run)
        read = synthetic.read(run.synthetic)
        assert bool(read.variants["synthetic"].isfinite().all())
        assert read.about["iteration"] == 3
        assert read.about["counts"]["skipped"] == 0
        first = synthetic.read(states.snapshots(run.snapshots)[0], states.KIND)
        assert not torch.equal(first.variants["synthetic"], read.variants["synthetic"])


def test_a_set_is_loaded_with_the_normaliser_beside_it(shared: Path, tmp_path: Path) -> None:
    run = run_in(shared, "beside", prepare__normalise="zca", distill__parameterisation="multiformation")
    pipeline.distill(run)
    alone = tmp_path / "alone" / "synthetic.h5"
    alone.parent.mkdir()
    alone.write_bytes(run.synthetic.read_bytes())
    with pytest.raises(UserError, match=r"needs its normaliser: put the normaliser\.h5"):
        attcli.load(alone)
    (alone.parent / normaliser.NAME).write_bytes(run.normaliser.read_bytes())
    loaded = attcli.load(alone)
    assert loaded.normaliser.digest() == dataset.read(run.dataset).normaliser.digest()
    assert torch.equal(loaded.images, attcli.load(run.synthetic).images)
    assert loaded.size["images_per_class"] == 4
    shared_plain = loaded.normaliser.inverse(loaded.images)
    assert -1e-4 <= float(shared_plain.min()) <= float(shared_plain.max()) <= 1 + 1e-4
    (alone.parent / normaliser.NAME).unlink()
    (alone.parent / "dataset.h5").write_bytes(run.dataset.read_bytes())
    assert torch.equal(attcli.load(alone).images, loaded.images)


def test_another_normaliser_is_not_taken(shared: Path, tmp_path: Path) -> None:
    run = run_in(shared, "beside", prepare__normalise="zca", distill__parameterisation="multiformation")
    other = run_in(shared, "other", prepare__normalise="zca", prepare__zca_eps=0.5)
    pipeline.distill(run)
    pipeline.distill(other)
    alone = tmp_path / "synthetic.h5"
    alone.write_bytes(run.synthetic.read_bytes())
    (tmp_path / normaliser.NAME).write_bytes(other.normaliser.read_bytes())
    with pytest.raises(UserError, match="needs its normaliser"):
        attcli.load(alone)


@pytest.mark.parametrize("kept", ["pixels", "multiformation"])
def test_a_set_alone_is_scored_on_another_machine_by_the_whitening_that_was_fitted_there(
    kept: str, shared: Path, tmp_path: Path, move_to_another_machine: Callable[[], None]
) -> None:
    run = run_in(shared, f"whitened-{kept}", prepare__normalise="zca", distill__parameterisation=kept)
    pipeline.distill(run)
    alone = tmp_path / "synthetic.h5"
    alone.write_bytes(run.synthetic.read_bytes())
    move_to_another_machine()
    there = run_in(tmp_path, "there", prepare__normalise="zca", distill__parameterisation=kept)
    pipeline.prepare(there)
    assert dataset.read(there.dataset).normaliser.digest() != dataset.read(run.dataset).normaliser.digest()
    with logged() as lines:
        scores = evaluate.run(there, alone)
    assert [line for line in lines if "fitted to the same images here is used, and differs by rounding" in line]
    own = pipeline.evaluate(run)["scores"]["convnet"]["synthetic"]["mean"]
    assert scores["scores"]["convnet"]["synthetic"]["mean"] == pytest.approx(own, abs=2)


def test_a_set_alone_is_scored_by_its_own_whitening_without_a_warning(shared: Path, tmp_path: Path) -> None:
    run = run_in(shared, "beside", prepare__normalise="zca", distill__parameterisation="multiformation")
    pipeline.distill(run)
    alone = tmp_path / "synthetic.h5"
    alone.write_bytes(run.synthetic.read_bytes())
    with logged() as lines:
        scores = evaluate.run(run, alone)["scores"]
    assert [line for line in lines if "normaliser" in line] == []
    assert scores["convnet"]["synthetic"] == pipeline.evaluate(run)["scores"]["convnet"]["synthetic"]


def test_a_whitening_of_other_images_is_not_used_instead(shared: Path, tmp_path: Path) -> None:
    run = run_in(shared, "beside", prepare__normalise="zca", distill__parameterisation="multiformation")
    pipeline.distill(run)
    alone = tmp_path / "synthetic.h5"
    alone.write_bytes(run.synthetic.read_bytes())
    changes = {"prepare__validation": 50, "distill__parameterisation": "multiformation"}
    there = run_in(tmp_path, "there", prepare__normalise="zca", **changes)
    pipeline.prepare(there)
    with pytest.raises(UserError, match="needs its normaliser"):
        evaluate.run(there, alone)


def test_a_standardised_set_stands_alone(shared: Path, tmp_path: Path) -> None:
    run = run_in(shared, "standing", distill__parameterisation="multiformation", distill__storage="uint8")
    pipeline.distill(run)
    alone = tmp_path / "synthetic.h5"
    alone.write_bytes(run.synthetic.read_bytes())
    assert torch.equal(attcli.load(alone).images, attcli.load(run.synthetic).images)
    assert attcli.load(alone).normaliser is not None


def test_a_damaged_normaliser_is_written_anew(shared: Path) -> None:
    run = run_in(shared, "damaged", distill__parameterisation="frequency", distill__storage="codes")
    pipeline.distill(run)
    run.normaliser.write_bytes(run.normaliser.read_bytes()[:-100])
    run.synthetic.unlink()
    pipeline.distill(run)
    assert normaliser.read(run.normaliser, dataset.read(run.dataset).about["normaliser"]["sha256"]) is not None


def test_scores_stand_beside_random_images_of_the_same_bytes(shared: Path) -> None:
    run = run_in(shared, "scored", distill__parameterisation="multiformation", distill__storage="uint8")
    report = pipeline.evaluate(run)
    assert list(report["scores"]["convnet"]) == ["synthetic", "ema", "random", "random-kept", "random-webp"]
    size = synthetic.read(run.synthetic).size
    assert {name: report["set"][name] for name in size} == size
    assert size["images_per_class"] == 16
    plain = run_in(shared, "scored-plain")
    assert list(pipeline.evaluate(plain)["scores"]["convnet"]) == ["synthetic", "ema", "random"]


@pytest.mark.parametrize("kept_as", ["uint8", "codes"])
def test_scales_follow_the_numbers_and_then_stay(shared: Path, kept_as: str) -> None:
    run = run_in(shared, f"pixels-{kept_as}", **LEARNED, distill__parameterisation="pixels", distill__storage=kept_as)
    pipeline.distill(run)
    second, fourth, sixth = states_of(run)
    assert second.scales.keys() == fourth.scales.keys() == sixth.scales.keys() == {"images", "logits"}
    for name, parts in fourth.scales.items():
        assert any(not torch.equal(second.scales[name][part], x) for part, x in parts.items())
        assert all(torch.equal(sixth.scales[name][part], x) for part, x in parts.items())
    for state in (second, fourth):  # in whose iterations scales were fitted
        decoder = states.coding_of(run.synthetic, synthetic.read(run.synthetic).about, None)
        fitted = decoder.fit(state.coded().learned)["images"]
        assert all(torch.equal(state.scales["images"][part], x) for part, x in fitted.items())
