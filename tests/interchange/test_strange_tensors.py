"""Files of torch.save that were made to harm without naming any code: nothing is used, and nothing allocated."""

import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import attcli
from attcli.errors import UserError
from attcli.interchange import released, released_experts, tensors
from tests.interchange.test_hostile import archive

HEAD = b"\x80\x02"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, numbers: int = 4) -> bytes:
    """Instructions for a tensor of float32 over the part `0` of an archive, which has so many numbers."""

    def tuple_of(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", value) for value in values) + b"t"

    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + (
        b"\x8a\x08" + struct.pack("<q", numbers) + b"tQ"
    )
    place = b"\x8a\x08" + struct.pack("<q", offset)
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + tuple_of(size) + tuple_of(stride) + hooks + b"tR"


def saved(path: Path, instructions: bytes, numbers: int = 4) -> Path:
    return archive(path, HEAD + instructions + b".", _0=bytes(4 * numbers))


def test_the_instructions_without_any_harm_are_read(tmp_path: Path) -> None:
    kept = tensors.load(saved(tmp_path / "a.pt", tensor((2, 2), (2, 1))))
    assert kept.shape == (2, 2)


@pytest.mark.parametrize(
    "instructions",
    [
        tensor((2**40,), (1,)),
        tensor((5,), (1,)),
        tensor((4,), (1,), offset=1),
        tensor((4,), (1,), offset=2**40),
        tensor((4,), (1,), offset=-4),
        tensor((2, 2), (2**40, 1)),
        tensor((2, 2), (-2, 1)),
        tensor((-1,), (1,)),
        tensor((2**62, 2**62), (0, 0)),
        tensor((2**31, 2**31), (1, 1), numbers=2**62),
        tensor((2**20,), (1,), numbers=2**40),
        tensor((4,), (1,), numbers=-4),
    ],
)
def test_tensors_that_reach_out_of_their_file(tmp_path: Path, instructions: bytes) -> None:
    path = saved(tmp_path / "images_x.pt", instructions)
    with pytest.raises(UserError) as refused:
        tensors.tensor(path, tensors.load(path), "images", range(1, 5))
    assert "damaged" in str(refused.value)
    assert str(refused.value).isprintable()


def test_keys_that_overflow_the_stack_are_refused_unhashed(tmp_path: Path) -> None:
    deep = b"}" + b")" + b"\x85" * 10**6 + b"Ns"
    path = saved(tmp_path / "replay_buffer_0.pt", deep)
    code = "import sys, pathlib; from attcli.interchange import tensors; tensors.load(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.returncode  # not by a signal
    assert "instruction SETITEM, which lists of tensors lack" in done.stderr


def test_lists_that_hold_themselves_many_times(tmp_path: Path) -> None:
    """Few instructions unfold to 10^18 experts: they are refused after as many as the file can hold."""
    one = b"]" + tensor((3, 4), (4, 1), numbers=15) + b"a" + tensor((3,), (1,), offset=12, numbers=15) + b"a"
    inner = b"]q\x01(" + b"(" * 0 + one + b"q\x02" + b"h\x02" * 1000 + b"e"
    content = b"](" + inner + b"h\x01" * 10**6 + b"e"
    path = saved(tmp_path / "replay_buffer_0.pt", content, numbers=15)
    with pytest.raises(UserError, match="claim more numbers than it has"):
        released_experts.read_experts(path, [["weight", [3, 4]], ["bias", [3]]], "a network")


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    good, other = pickle.dumps([1.0], protocol=2), pickle.dumps([2.0], protocol=2)
    for name in ("archive/data.pkl", "archive/DATA.PKL", "other/data.pkl"):
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", good)
            file.writestr("archive/version", "3\n")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the double name
                file.writestr(name, other)
        with pytest.raises(UserError, match=r"two of its parts have one name|no list of its tensors"):
            tensors.load(path)


def test_a_part_that_is_packed_a_thousandfold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images_x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", HEAD + b"].")
        file.writestr("archive/data/0", bytes(10**8))
    assert path.stat().st_size < 10**6
    with pytest.raises(UserError, match="its parts claim more than it has"):
        tensors.load(path)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), 0.0, -1.0, 2**62])
def test_learning_rates_that_are_none(tmp_path: Path, value: Any) -> None:
    images, labels = torch.randn(10, 3, 32, 32), torch.arange(10)
    for name, content in (("images", images), ("labels", labels)):
        torch.save(content, tmp_path / f"{name}_best.pt")
    path = archive(tmp_path / "lr_best.pt", pickle.dumps(value, protocol=2))
    if value == 2**62:
        assert attcli.load(tmp_path).lr == 2.0**62
        return
    with pytest.raises(UserError, match="learning rate"):
        attcli.load(path.parent)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.tensor([0, 2**62]), "2 images for .* classes"),
        (torch.tensor([-5, -5]), "2 images for -4 classes"),
        (torch.tensor([0.0, float("nan")]), "labels that are not finite"),
        (torch.zeros(0, dtype=torch.long), "no images"),
        (torch.zeros(2, 0), "no images"),
        (torch.zeros(2, 2, dtype=torch.long), "neither class numbers"),
        (torch.tensor([0.0, 1.0]), "neither class numbers"),
    ],
)
def test_labels_that_would_make_a_list_without_end(tmp_path: Path, labels: torch.Tensor, problem: str) -> None:
    torch.save(torch.randn(2, 3, 32, 32), tmp_path / "images_a.pt")
    torch.save(labels, tmp_path / "labels_a.pt")
    with pytest.raises(UserError, match=problem):
        attcli.load(tmp_path / "images_a.pt", lr=0.1)


@pytest.mark.parametrize("shape", [(0, 3, 32, 32), (2, 0, 32, 32), (2, 3, 0, 0), (2, 3, 32, 16), (2, 2000, 1, 1)])
def test_images_of_no_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    torch.save(torch.zeros(shape), tmp_path / "images_a.pt")
    torch.save(torch.arange(shape[0]), tmp_path / "labels_a.pt")
    with pytest.raises(UserError) as refused:
        attcli.load(tmp_path / "images_a.pt", lr=0.1)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("name", ["images_\x1b[31m.pt", "images_\u202e.pt"])
def test_a_name_that_steers_stays_out_of_the_header(tmp_path: Path, name: str) -> None:
    torch.save(torch.randn(2, 3, 32, 32), tmp_path / "images.pt")
    torch.save(torch.arange(2), tmp_path / "labels.pt")
    for part in ("images", "labels"):
        (tmp_path / f"{part}.pt").rename(tmp_path / name.replace("images", part))
    origin = released.read(tmp_path / name).file
    assert origin.isprintable()
    assert attcli.load(tmp_path / name, lr=0.1).about["imported"]["file"] == origin


@pytest.mark.parametrize("name", ["images_\udcff.pt", "images_a\nb.pt", "\x1b[2J.pt"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    torch.save(torch.randn(2, 3, 32, 32), tmp_path / "images.pt")
    torch.save(torch.arange(2), tmp_path / "labels.pt")
    for part in ("images", "labels"):
        (tmp_path / f"{part}.pt").rename(tmp_path / name.replace("images", part))
    with pytest.raises(UserError) as refused:
        attcli.load(tmp_path / name, lr=0.1)
    assert str(refused.value).isprintable()
