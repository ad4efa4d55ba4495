"""Files that were made to harm, or are not what they are called: one line, and nothing of them runs."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from attcli.errors import UserError
from attcli.interchange import released, released_experts, tensors
from tests.conftest import Cli
from tests.interchange import released as theirs
from tests.test_cli import refused

LAYOUT = [["weight", [3, 4]], ["bias", [3]]]


class Touch:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> Any:
        return os.system, ("touch harmed",)


def archive(path: Path, instructions: bytes, compression: int = zipfile.ZIP_STORED, **entries: bytes) -> Path:
    """An archive like those of torch.save with these instructions."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", instructions)
        file.writestr("archive/version", "3\n")
        for name, content in entries.items():
            file.writestr(f"archive/data/{name.removeprefix('_')}", content)
    return path


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_with_code_is_refused_and_nothing_runs(cli: Cli, protocol: int) -> None:
    torch.save([Touch()], "replay_buffer_0.pt", pickle_protocol=protocol)
    line = refused(cli, "import", "replay_buffer_0.pt", small=True)
    assert ("asks for posix.system" if protocol == 2 else "its pickle is of protocol 4") in line
    assert not Path("harmed").exists()
    torch.save([Touch()], "images_best.pt", pickle_protocol=protocol)
    torch.save(torch.zeros(10), "labels_best.pt")
    assert refused(cli, "import", "images_best.pt", small=True) == line.replace("replay_buffer_0", "images_best")
    assert not Path("harmed").exists()
    torch.load("replay_buffer_0.pt", weights_only=False)  # it would have harmed
    assert Path("harmed").exists()


def test_instructions_that_allocate_are_refused(tmp_path: Path) -> None:
    class Huge:
        def __reduce__(self) -> Any:
            return bytearray, (10**13,)

    path = archive(tmp_path / "images_x.pt", pickle.dumps(Huge(), protocol=2))
    with pytest.raises(UserError, match=r"asks for (__builtin__|builtins)\.bytearray"):
        tensors.load(path)


def test_tensors_that_claim_more_than_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "images_x.pt"
    torch.save(torch.zeros(1).expand(10**6, 3, 1000, 1000), path)
    assert path.stat().st_size < 5000
    torch.save(torch.zeros(10), tmp_path / "labels_x.pt")
    with pytest.raises(UserError, match="its images claim more numbers than it has"):
        released.read(path)
    one = [[torch.zeros(1).expand(3, 4), torch.zeros(1).expand(3)]] * 1000
    torch.save([one] * 1000, path)
    with pytest.raises(UserError, match="its experts claim more numbers than it has"):
        released_experts.read_experts(path, LAYOUT, "a network")


def test_numbers_that_a_disk_has_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images_x.pt"
    torch.save(torch.arange(1000.0), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True), torch.arange(1000.0))  # torch does not notice
    with pytest.raises(UserError, match=r"images_x\.pt is damaged.*data/0 does not match its checksum\); get it again"):
        tensors.load(path)


def test_a_damaged_byte_of_the_archive_gives_one_line_or_changes_no_number(tmp_path: Path) -> None:
    path, numbers = tmp_path / "images_x.pt", torch.arange(4.0)
    torch.save(numbers, path)
    whole = path.read_bytes()
    header = zipfile.ZipFile(path).getinfo("images_x/data/0").header_offset
    for place in (*range(header, header + 30), *range(0, len(whole), 29)):
        path.write_bytes(bytes([*whole[:place], whole[place] ^ 64, *whole[place + 1 :]]))
        try:
            assert torch.equal(tensors.load(path), numbers)
        except UserError as error:
            assert "is damaged, or no file of torch.save" in str(error)  # noqa: PT017


def test_archives_that_are_compressed_or_cut_short(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"0" * 10**7, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="its parts claim more than it has"):
        tensors.load(path)
    torch.save(torch.randn(1000), path)
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"a.pt is damaged, or no file of torch\.save"):
            tensors.load(path)
    path.write_bytes(b"\x80\x02]q\x00.")
    with pytest.raises(UserError, match=r"files of torch before 1\.6"):
        tensors.load(path)


def test_any_damaged_byte_of_the_instructions_gives_one_line(tmp_path: Path) -> None:
    stream = io.BytesIO()
    torch.save([[torch.zeros(3, 4), torch.zeros(3)]] * 2, stream)
    with zipfile.ZipFile(stream) as file:
        (name,) = [name for name in file.namelist() if name.endswith("data.pkl")]
        instructions = file.read(name)
        entries = {f"_{i}": file.read(f"{name.rpartition('/')[0]}/data/{i}") for i in (0, 1)}
    refusals: list[str] = []
    for place in range(len(instructions)):
        harmed = bytearray(instructions)
        harmed[place] ^= 0x15
        path = archive(tmp_path / "a.pt", bytes(harmed), **entries)
        try:
            released_experts.read_experts(path, LAYOUT, "a network")
        except UserError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert not [line for line in refusals if "\n" in line]


def test_other_things_than_experts_and_sets(cli: Cli) -> None:
    for content, message in (
        (torch.zeros(3), "holds no list of experts"),
        ([[]], "holds no list of experts"),
        ([[[torch.zeros(3)]]], "parameter 0 is [3] there"),
        ([[["text"]]], "holds no tensor of parameters"),
        ({}, "holds no list of experts"),
    ):
        torch.save(content, "replay_buffer_0.pt")
        assert message in refused(cli, "import", "replay_buffer_0.pt", small=True)
    expert = theirs.trajectory(0, epochs=1)
    expert[1][0][0] = float("nan")
    torch.save([expert], "replay_buffer_0.pt")
    assert "whose parameters are not finite" in refused(cli, "import", "replay_buffer_0.pt", small=True)
    torch.save([expert[:1]], "replay_buffer_0.pt")
    assert "an expert without an epoch" in refused(cli, "import", "replay_buffer_0.pt", small=True)
    torch.save([[[part.long() for part in expert[0]]] * 2], "replay_buffer_0.pt")
    assert "of type torch.int64" in refused(cli, "import", "replay_buffer_0.pt", small=True)
    assert not list(Path().glob("artifacts/experts/expert*"))
    Path("notes.txt").write_text("notes")
    assert "notes.txt is in no form that attcli can read" in refused(cli, "import", "notes.txt")
    assert "nowhere is missing" in refused(cli, "import", "nowhere")
    os.mkfifo("images_pipe.pt")
    assert "images_pipe.pt" in refused(cli, "import", "images_pipe.pt")
