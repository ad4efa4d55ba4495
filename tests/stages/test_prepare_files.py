"""Folders of images through `prepare`: what is written, what is left out, and going on after a kill."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loguru import logger
from PIL import Image

from attcli.data import contents
from attcli.data.decoding import DecodedFiles
from attcli.errors import UserError
from attcli.settings import resolve
from attcli.stages import decoded, facts, identity, inputs, pipeline
from attcli.stages.forecast import forecast
from attcli.stages.run import Run
from attcli.store import dataset
from attcli.store.spool import Spool
from tests.conftest import Cli
from tests.data.pictures import classes, picture

MakeRun = Callable[..., Run]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of three images."""
    monkeypatch.setattr(decoded, "PIECE_BYTES", 3 * 3 * 64)


@pytest.fixture
def of_folder(make_run: MakeRun, tmp_path: Path) -> MakeRun:
    """A run on a folder of two classes of 20 pictures each."""
    root = classes(tmp_path / "images", ("cat", "dog"), 20)

    def make(name: str = "run", **changes: object) -> Run:
        wanted = {"prepare__dataset": "folder", "runtime__data_dir": str(root), "buffer__batch": 8}
        return make_run(tmp_path / name, **{"prepare__validation": 6, **wanted, **changes})

    return make


@pytest.mark.usefixtures("small_pieces")
def test_a_folder_becomes_a_dataset_and_experts(of_folder: MakeRun) -> None:
    run = of_folder(buffer__experts=1)
    pipeline.buffer(run)
    data = dataset.read(run.dataset)
    assert data.about["classes"] == ["cat", "dog"]
    assert {split: labels.bincount().tolist() for split, labels in data.labels.items()} == {
        "train": [13, 13],
        "validation": [3, 3],
        "test": [4, 4],
    }
    assert data.images["train"].shape == (26, 3, 8, 8)
    inputs_of_train = data.inputs("train")
    assert abs(float(inputs_of_train.mean())) < 1e-5
    assert not list(run.settings.runtime.work_dir.glob("prepare-*/*decoded*"))


def test_the_files_of_a_dataset_are_not_gone_through_for_each_expert(
    of_folder: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, calls = contents.digest, []
    monkeypatch.setattr(contents, "digest", lambda *files: calls.append(files) or digest(*files))
    counts = []
    for experts in (1, 3):
        run = of_folder(f"of {experts}", buffer__experts=experts)
        pipeline.buffer(run)
        calls.clear()
        inputs.open_experts(run, inputs.read_dataset(run)).close()
        counts.append(len(calls))
    assert counts[0] == counts[1]


def sha256(run: Run) -> str:
    pipeline.prepare(run)
    return dataset.read(run.dataset).sha256


@pytest.mark.usefixtures("small_pieces")
def test_a_killed_prepare_goes_on_and_ends_the_same(of_folder: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sha256(of_folder("whole"))
    run = of_folder("killed")
    calls: list[int] = []
    decode = DecodedFiles.decode

    def dies(self: DecodedFiles, index: np.ndarray) -> object:
        calls.append(len(index))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return decode(self, index)

    monkeypatch.setattr(DecodedFiles, "decode", dies)
    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare(run)
    folder = run.work("prepare", identity.prepare(run.settings)[0])
    kept = Spool(folder, "train-decoded", (3, 8, 8)).rows
    assert kept in (3, 6, 9)  # blocks are decoded side by side: the fourth may begin before the third is kept
    done = len(calls)
    assert sha256(run) == whole
    # Of 26 training images, 6 for validation and 8 for testing, three at a time, what was kept is not decoded again.
    assert len(calls) - done == 9 - kept // 3 + 2 + 3


def test_what_a_kill_leaves_of_decoded_images_is_deleted(of_folder: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = of_folder()
    write = dataset.write

    def killed(*parts: object) -> None:
        write(*parts)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare(run)
    folder = run.work("prepare", identity.prepare(run.settings)[0])
    assert len(list(folder.glob("*decoded*"))) == 6
    pipeline.prepare(run)
    assert not list(folder.glob("*decoded*"))


@pytest.mark.usefixtures("small_pieces")
def test_unreadable_files_are_named_and_left_out(of_folder: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "images" / "dog" / "3.png").write_bytes(b"")
    (tmp_path / "images" / "cat" / "x.png").write_text("no image")
    with pytest.raises(UserError, match=r"2 of 41 images cannot be read \(.*cat/x.png: it is no image") as caught:
        pipeline.prepare(of_folder())
    assert "dog/3.png: it is empty" in str(caught.value)
    assert "prepare.allow_unreadable=true" in str(caught.value)
    run = of_folder(prepare__allow_unreadable=True)
    told: list[str] = []
    sink = logger.add(told.append, level="WARNING", format="{message}")
    logger.enable("attcli")
    pipeline.prepare(run)
    logger.remove(sink)
    assert "2 of 41 images cannot be read and are left out" in "".join(told)
    data = dataset.read(run.dataset)
    assert sum(len(labels) for labels in data.labels.values()) == 39
    assert all(len(data.images[split]) == len(data.labels[split]) for split in dataset.SPLITS)
    assert all(data.images[split].flatten(1).any(dim=1).all() for split in dataset.SPLITS)
    left = [path for path in (tmp_path / "images").rglob("*.png") if path.stat().st_size > 10]
    class_of = {np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes(): path.parent.name for path in left}
    for split in dataset.SPLITS:
        for image, label in zip(data.images[split], data.labels[split].tolist(), strict=True):
            assert class_of[image.numpy().tobytes()] == ("cat", "dog")[label]


def test_one_in_a_hundred_may_be_unreadable(of_folder: MakeRun, tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / "images" / "cat" / f"more{i}.png", seed=1000 + i)
    (tmp_path / "images" / "cat" / "bad.png").touch()
    run = of_folder()
    pipeline.prepare(run)
    assert sum(len(labels) for labels in dataset.read(run.dataset).labels.values()) == 100


@pytest.mark.usefixtures("small_pieces")
def test_what_was_decoded_serves_where_unreadable_files_are_allowed_then(
    of_folder: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images" / "dog" / "3.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"prepare\.allow_unreadable=true"):
        pipeline.prepare(of_folder())
    decoded_images = []
    decode = DecodedFiles.decode
    monkeypatch.setattr(DecodedFiles, "decode", lambda self, index: decoded_images.append(1) or decode(self, index))
    run = of_folder(prepare__allow_unreadable=True)
    pipeline.prepare(run)
    assert not decoded_images
    assert inputs.read_dataset(of_folder()).sha256 == dataset.read(run.dataset).sha256


def test_a_channel_without_any_deviation_is_told(of_folder: MakeRun, tmp_path: Path) -> None:
    for path in (tmp_path / "images").rglob("*.png"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[..., 1] = 7
        Image.fromarray(pixels).save(path)
    message = r"channel 2 of 3 is the same in all training images.* set prepare\.normalise=zca"
    with pytest.raises(UserError, match=message):
        pipeline.prepare(of_folder(prepare__normalise="standardise"))
    run = of_folder(prepare__normalise="zca")
    pipeline.prepare(run)
    assert inputs.read_dataset(run).inputs("train").isfinite().all()


def test_a_class_that_cannot_be_read_at_all(of_folder: MakeRun, tmp_path: Path) -> None:
    for path in (tmp_path / "images" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="class cat has no training image that can be read"):
        pipeline.prepare(of_folder(prepare__allow_unreadable=True))


def uneven(make_run: MakeRun, root: Path, small: int, large: int, **changes: object) -> Run:
    """A run on two classes of so many training images, with four test images each."""
    for name, count in (("cat", small), ("dog", large)):
        classes(root / "train", (name,), count)
    classes(root / "test", ("cat", "dog"), 4)
    wanted: dict[str, object] = {"prepare__dataset": "folder", "prepare__validation": 0, "runtime__data_dir": root}
    return make_run(**wanted | changes)


def test_a_limit_leaves_the_images_of_smaller_classes(make_run: MakeRun, tmp_path: Path) -> None:
    run = uneven(make_run, tmp_path / "photos", 4, 30, prepare__limit_per_class=20, buffer__batch=24)
    pipeline.prepare(run)
    assert np.bincount(dataset.read(run.dataset).labels["train"]).tolist() == [4, 20]
    with pytest.raises(UserError, match=r"buffer\.batch 25 is more than the 24 training images"):
        uneven(make_run, tmp_path / "photos", 4, 30, prepare__limit_per_class=20, buffer__batch=25)


def test_validation_that_empties_a_class_is_told(make_run: MakeRun, tmp_path: Path) -> None:
    changes = {"prepare__validation": 28, "distill__init": "noise", "buffer__batch": 2}
    with pytest.raises(UserError, match=r"prepare\.validation 28 leaves class cat no training image; lower it"):
        pipeline.prepare(uneven(make_run, tmp_path / "photos", 1, 30, **changes))


def test_changed_files_are_another_dataset(of_folder: MakeRun, tmp_path: Path) -> None:
    run = of_folder()
    pipeline.prepare(run)
    assert inputs.read_dataset(run).sha256
    picture(tmp_path / "images" / "cat" / "new.png", seed=500)
    with pytest.raises(UserError, match=r"made with other settings \(other inputs"):
        pipeline.prepare(of_folder())
    assert sha256(of_folder("other")) != dataset.read(run.dataset).sha256


def test_the_seed_counts_where_it_draws_the_test_images(make_run: MakeRun, tmp_path: Path) -> None:
    wanted = {"prepare__dataset": "folder", "prepare__validation": 0, "buffer__batch": 4}
    drawn = str(classes(tmp_path / "drawn"))
    classes(tmp_path / "own" / "train")
    classes(tmp_path / "own" / "test")
    for folder, counts in ((drawn, True), (str(tmp_path / "own"), False)):
        runs = [make_run(**wanted, runtime__data_dir=folder, prepare__seed=seed) for seed in (0, 1)]
        identities = [identity.prepare(run.settings)[0] for run in runs]
        assert (identities[0] != identities[1]) == counts
    share = make_run(**wanted, runtime__data_dir=drawn, prepare__test_share=0.5)
    assert identity.prepare(share.settings)[0] not in [identity.prepare(run.settings)[0] for run in runs]


def test_the_plan_counts_the_disk_of_what_is_decoded(of_folder: MakeRun) -> None:
    assert "up to 15 kB" in forecast(of_folder(), ["prepare"])  # 40 images of 192 bytes, twice


def test_a_prepared_dataset_serves_without_its_files(make_run: MakeRun, tmp_path: Path) -> None:
    """As on another machine, where DVC has restored dataset.h5 alone."""
    for part in ("train", "val"):
        names = tuple(f"n0{i}" for i in range(9))
        classes(tmp_path / "data" / "tiny-imagenet-200" / part, ("n01443537", *names), 3)
    wanted = {"prepare__dataset": "tinyimagenet", "prepare__validation": 0, "prepare__resolution": 8}
    run = make_run(**wanted, runtime__data_dir=str(tmp_path / "data"), buffer__batch=8, distill__init="noise")
    pipeline.prepare(run)
    kept = inputs.read_dataset(run).sha256
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert inputs.read_dataset(run).sha256 == kept
    run.dataset.unlink()
    with pytest.raises(UserError, match="tinyimagenet is not in"):
        pipeline.prepare(run)


@pytest.mark.parametrize("layout", ["drawn", "own"])
def test_a_prepared_folder_serves_without_its_files(cli: Cli, layout: str) -> None:
    """On the other machine there is neither the folder nor the memory of its digests."""
    for part in [""] if layout == "drawn" else ["train", "test"]:
        classes(cli.folder / "photos" / part, count=10)
    folder = ("--set", "prepare.dataset=folder", "--data-dir", "photos", "--set", "buffer.batch=4")
    validation = ("--set", "prepare.validation=0")
    cli.small("prepare", *folder, *validation)
    path = cli.folder / "artifacts" / "dataset.h5"
    prepared = path.read_bytes()
    assert dataset.facts(path).train == sum(len(dataset.read(path).labels[name]) for name in ("train", "validation"))
    for name in ("photos", ".attcli"):
        (cli.folder / name).rename(cli.folder / f"elsewhere-{name}")
    assert "nothing to do: artifacts/dataset.h5 is there" in cli.small("distill", *folder, *validation, "--dry-run")
    facts._of_file.cache_clear()  # it was said once in this process
    log = cli.small_log("evaluate", *folder, *validation)
    assert log.count("artifacts/dataset.h5 stands for its image files (photos is not there)") == 1
    assert (cli.folder / "artifacts" / "dataset.h5").read_bytes() == prepared
    assert (cli.folder / "artifacts" / "scores.json").exists()
    for words, problem in (
        (("--set", "prepare.limit_per_class=3"), "prepare.limit_per_class is null there, 3 asked for"),
        (("--set", "buffer.batch=400"), "buffer.batch 400 is more than the"),
        (("--set", "distill.ipc=400"), "distill.ipc 400 is more than the"),
        (("--force", "--set", "prepare.limit_per_class=4"), "photos is not there; name the folder"),
    ):
        assert problem in cli.small("distill", *folder, *validation, *words, code=2)
        assert (cli.folder / "artifacts" / "dataset.h5").read_bytes() == prepared


def test_another_prepared_dataset_does_not_stand_for_a_folder(cli: Cli) -> None:
    cli.small("prepare")
    folder = ("--set", "prepare.dataset=folder", "--data-dir", "photos")
    for words in ((), ("--dry-run",)):
        assert "photos is not there; name the folder" in cli.small("distill", *folder, *words, code=2)


def test_zca_of_large_images_is_refused_before_any_work(tmp_path: Path) -> None:
    classes(tmp_path / "images")
    wanted = {"prepare.dataset": "folder", "runtime.data_dir": str(tmp_path / "images"), "buffer.batch": 2}
    message = r"49,152 x 49,152 numbers, which is too large; set prepare.normalise=standardise, .* at most 64"
    with pytest.raises(UserError, match=message):
        resolve({**wanted, "prepare.resolution": 128, "prepare.normalise": "zca"}, environ={}, ignore_params=True)
    resolve({**wanted, "prepare.resolution": 64, "prepare.normalise": "zca"}, environ={}, ignore_params=True)


def test_a_folder_on_the_command_line(cli: Cli) -> None:
    words = ("prepare", "--dataset", "folder", "--data-dir", "images", "--set", "buffer.batch=4")
    assert "images is not there; name the folder" in cli(*words, code=2)
    classes(cli.folder / "images")
    assert "from the images in images" in cli(*words, "--dry-run")
    cli(*words, "--set", "prepare.classes=dog,cat")
    prepared = dataset.read(cli.folder / "artifacts" / "dataset.h5")
    assert prepared.about["classes"] == ["dog", "cat"]
    assert prepared.normaliser.kind == "standardise"
    assert "classes is ['dog', 'cat'] there" in cli(*words, code=2)


def test_the_log_tells_of_the_classes_and_of_files_that_are_no_images(of_folder: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "images" / "cat" / "notes.txt").touch()
    told: list[str] = []
    sink = logger.add(told.append, level="INFO", format="{message}")
    logger.enable("attcli")
    pipeline.prepare(of_folder())
    pipeline.prepare(of_folder())
    logger.remove(sink)
    lines = "".join(told).splitlines()
    ignored = f"cat/notes.txt in {tmp_path / 'images'} is no image by its name and is ignored"
    assert lines.count(ignored) == 1
    assert "training images of each class: cat 13, dog 13" in lines


def test_no_more_than_one_in_a_hundred_may_be_unreadable() -> None:
    decoded.check_problems(["a", "b"], 200, False)
    with pytest.raises(UserError, match="2 of 101 images cannot be read"):
        decoded.check_problems(["a", "b"], 101, False)
