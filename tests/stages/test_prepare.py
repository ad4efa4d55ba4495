"""What is prepared: the parts of the dataset, and the normaliser."""

from collections.abc import Callable
from pathlib import Path

import pytest

from attcli import registry
from attcli.stages import identity, pipeline
from attcli.stages.run import Run
from attcli.store import dataset
from tests.data.test_sources import write_cifar10

MakeRun = Callable[..., Run]


def test_validation_is_split_off_stratified_and_limits_hold(make_run: MakeRun) -> None:
    run = make_run(prepare__limit_per_class=50, prepare__validation=105, buffer__batch=64)
    pipeline.prepare(run)
    data = dataset.read(run.dataset)
    counts = {split: data.labels[split].bincount() for split in data.labels}
    assert int(counts["validation"].sum()) == 105
    assert counts["validation"].tolist() == [11] * 5 + [10] * 5
    assert (counts["train"] + counts["validation"]).tolist() == [50] * 10
    kept = {image.numpy().tobytes() for image in data.images["train"]}
    assert not kept & {image.numpy().tobytes() for image in data.images["validation"]}


def test_the_digits_content_is_what_it_always_was(make_run: MakeRun) -> None:
    """Identities of experts and sets name this digest, so kept work is found by it."""
    run = make_run(prepare__validation=200)
    pipeline.prepare(run)
    data = dataset.read(run.dataset)
    assert data.sha256 == "3419a1f42f7a28dd52b76848016eacc3b8bd91eb2e64bcf5371c5467322f8c5a"
    assert identity.prepare(run.settings)[0] == "c2237df9cd45f903"


def test_the_literatures_normaliser_is_taken_as_it_is(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    wanted = {"prepare__dataset": "cifar10", "prepare__validation": 0, "runtime__data_dir": str(tmp_path)}
    means = []
    for kind in ("literature", "standardise"):
        run = make_run(tmp_path / kind, prepare__normalise=kind, **wanted)
        pipeline.prepare(run)
        found = dataset.read(run.dataset).normaliser
        assert found.kind == "standardise"
        means.append(found.mean.tolist())
    literature = registry.dataset("cifar10").literature
    assert literature is not None
    assert means[0] == pytest.approx(literature[0])
    assert means[1] == pytest.approx([0.5] * 3, abs=0.01)  # of uniform noise
