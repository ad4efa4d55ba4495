"""Images that stay in their file, read by rows, each block verified; and blocks that are decoded one by one."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from attcli.data import normalise
from attcli.errors import DamagedError
from attcli.store import artefact, blocks, dataset
from attcli.store.spool import Spool, remove_spool

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), np.uint8)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of seven images, and every file with digests of them."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * 48)
    monkeypatch.setattr(dataset, "LARGE", 0)


def write(path: Path) -> str:
    normaliser = normalise.fit("standardise", torch.from_numpy(IMAGES).float() / 255, 0.0)
    header_of = {"kind": "standardise", "eps": 0.0, "sha256": normaliser.digest()}
    about = {"dataset": "x", "classes": ["a", "b"], "channels": 3, "resolution": 4, "value_scale": 1 / 255}
    header = artefact.Header(dataset.KIND, "0" * 16, {}, {**about, "normaliser": header_of})

    def pieces() -> list[np.ndarray]:
        return [IMAGES[:20], IMAGES[20:21], IMAGES[21:]]

    arrays: dict = {"train/images": artefact.Streamed(IMAGES.shape, IMAGES.dtype, pieces)}
    arrays |= {f"{split}/images": IMAGES[:3] for split in ("validation", "test")}
    arrays |= {"train/labels": np.arange(50) % 2}
    arrays |= {f"{split}/labels": np.arange(3) % 2 for split in ("validation", "test")}
    return dataset.write(path, header, arrays, normaliser)


@pytest.mark.usefixtures("small_blocks")
def test_a_file_written_in_pieces_names_the_same_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = write(tmp_path / "digested.h5")
    monkeypatch.setattr(dataset, "LARGE", 1 << 30)
    assert write(tmp_path / "whole.h5") == digest
    whole, digested = (dataset.read(tmp_path / name) for name in ("whole.h5", "digested.h5"))
    assert whole.sha256 == digested.sha256 == digest
    assert torch.equal(whole.images["train"][:], torch.from_numpy(IMAGES))
    assert torch.equal(digested.images["train"][:], torch.from_numpy(IMAGES))
    with h5py.File(tmp_path / "digested.h5") as file:
        assert file["train/digests"].shape == (8, 32)
    with h5py.File(tmp_path / "whole.h5") as file:
        assert "digests" not in file["train"]


def test_images_without_digests_by_blocks_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    monkeypatch.setattr(blocks.BlockDigests, "add", lambda self, piece: hashed.append(len(piece)))
    write(tmp_path / "whole.h5")
    assert not hashed


@pytest.mark.usefixtures("small_blocks")
def test_images_stay_in_the_file_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "dataset.h5")
    held = dataset.read(tmp_path / "dataset.h5")
    monkeypatch.setattr("attcli.runtime.free_memory", lambda: 0)
    data = dataset.read(tmp_path / "dataset.h5")
    index = torch.tensor([49, 3, 3, 20])
    for split in dataset.SPLITS:
        assert isinstance(data.images[split], blocks.FileImages)
        assert torch.equal(data.images[split][:], held.images[split][:])
    assert torch.equal(data.images["train"][index], torch.from_numpy(IMAGES[index]))
    assert torch.equal(data.inputs("train", index), held.inputs("train", index))
    with pytest.raises(IndexError):
        data.images["train"][torch.tensor([50])]


@pytest.mark.usefixtures("small_blocks")
def test_a_damaged_block_is_noticed_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset.h5"
    write(path)
    content = path.read_bytes()
    place = content.index(IMAGES[:20].tobytes()) + 30 * 48  # in the fifth block
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(DamagedError, match="checksum does not match"):
        dataset.read(path)
    monkeypatch.setattr("attcli.runtime.free_memory", lambda: 0)
    images = dataset.read(path).images["train"]
    assert torch.equal(images[torch.arange(28)], torch.from_numpy(IMAGES[:28]))
    with pytest.raises(DamagedError, match=r"block 4 of its images does not match .* run `attcli prepare`"):
        images[torch.tensor([28])]


@pytest.mark.usefixtures("small_blocks")
def test_what_is_not_among_the_blocks_stays_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dataset.h5"
    write(path)
    content = path.read_bytes()
    place = content.rindex(IMAGES[:3].tobytes()) + 5
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    monkeypatch.setattr("attcli.runtime.free_memory", lambda: 0)
    with pytest.raises(DamagedError, match="checksum does not match"):
        dataset.read(path)


def test_a_spool_goes_on_after_its_last_whole_block(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "train", (3, 4, 4))
    spool.append(IMAGES[:10], {2: "it is empty"}, 1)
    spool.append(IMAGES[10:20], {}, 0)
    spool.append(IMAGES[20:30], {0: "it is cut short"}, 2)
    assert Spool(tmp_path, "train", (3, 4, 4)).problems == {2: "it is empty", 20: "it is cut short"}
    lines = (tmp_path / "train.jsonl").read_bytes()
    (tmp_path / "train.jsonl").write_bytes(lines[:-3])  # killed while the last line was written
    again = Spool(tmp_path, "train", (3, 4, 4))
    assert (again.rows, again.animated) == (20, 1)
    again.append(IMAGES[20:25], {}, 0)
    rows = np.array([0, 1, 3, 19, 24])
    assert np.array_equal(Spool(tmp_path, "train", (3, 4, 4)).read(rows), IMAGES[rows])
    with (tmp_path / "train.images").open("r+b") as file:
        file.seek(15 * 48)
        file.write(bytes([IMAGES[15].flat[0] ^ 1]))
    damaged = Spool(tmp_path, "train", (3, 4, 4))
    assert damaged.rows == 10
    remove_spool(tmp_path, "train")
    assert not list(tmp_path.iterdir())
