"""Sets in safetensors: the same file comes back, and others can read the numbers."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from attcli.store import artefact, normaliser, synthetic
from tests.conftest import Cli
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")
OUT = Path("exported/safetensors")

SETS = {
    "pixels": {},
    "small": {"distill.parameterisation": "multiformation", "distill.storage": "uint8"},
    "codes": {"distill.parameterisation": "frequency", "distill.frequencies": "8", "distill.storage": "codes"},
    "half": {"distill.storage": "bfloat16", "distill.labels": "learned", "distill.label_storage": "uint8"},
    "zca": {"prepare.normalise": "zca"},
}


def sets(chosen: dict[str, str]) -> list[str]:
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.parametrize("name", SETS)
def test_the_same_file_comes_back_in_an_empty_folder(cli: Cli, name: str) -> None:
    cli.small("distill", *sets(SETS[name]))
    own = synthetic.read(RESULT)
    paths = [Path(line) for line in cli("export", "--to", "safetensors").splitlines()]
    assert [path.name for path in paths] == ["distilled.safetensors", *["normaliser.safetensors"] * (name == "zca")]
    cli("import", str(OUT), "--artifacts", "other")
    assert Path("other/synthetic.h5").read_bytes() == RESULT.read_bytes()
    again = normaliser.read(Path("other/normaliser.h5"), own.about["normaliser"]["sha256"])
    assert again is not None
    assert own.normaliser is not None
    assert again.digest() == own.normaliser.digest()
    assert Path("other/images.png").read_bytes() == Path("artifacts/images.png").read_bytes()
    cli("import", str(OUT))  # the same set is there: nothing is lost
    assert Path("artifacts/history.h5").exists()
    assert "nothing to do: 6 iterations" in cli.small("distill", *sets(SETS[name]), "--dry-run")


def test_the_normaliser_of_another_set_does_not_stay_beside_an_export(cli: Cli) -> None:
    cli.small("distill")
    OUT.mkdir(parents=True)
    (OUT / "normaliser.safetensors").write_bytes(b"of another set")
    assert "normaliser.safetensors is there already; --force overwrites it" in refused(cli, "export", "--to", OUT.name)
    cli("export", "--to", OUT.name, "--force")
    assert [path.name for path in OUT.iterdir()] == ["distilled.safetensors"]


def test_other_programs_find_the_numbers_and_what_they_mean(cli: Cli) -> None:
    cli.small("distill")
    own = synthetic.read(RESULT)
    cli("export", "--to", "safetensors")
    arrays = load_file(OUT / "distilled.safetensors")
    assert torch.equal(torch.from_numpy(arrays["synthetic/images/values"]), own.variants["synthetic"])
    with safe_open(OUT / "distilled.safetensors", framework="numpy") as file:
        said = file.metadata()
    assert json.loads(said["parameterisation"]) == {"name": "pixels"}
    assert json.loads(said["lr"]) == own.lr
    assert json.loads(said["classes"]) == [str(number) for number in range(10)]


def test_another_set_is_not_replaced(cli: Cli) -> None:
    cli.small("distill", "--iterations", "4")
    cli("export", "--to", "safetensors")
    cli.small("distill")
    assert "is from another iteration of the same distillation" in refused(cli, "import", str(OUT))
    cli("import", str(OUT), "--force")
    assert synthetic.read(RESULT).about["iteration"] == 4
    cli.small("distill", "--force", "--set", "distill.lr_img=2")
    assert "synthetic.h5 was made with other settings" in refused(cli, "import", str(OUT))
    assert "says its learning rate itself" in refused(cli, "import", str(OUT), "--lr", "1", "--artifacts", "other")


def test_damaged_files_give_one_line(cli: Cli) -> None:
    cli.small("distill")
    cli("export", "--to", "safetensors")
    path = OUT / "distilled.safetensors"
    whole = path.read_bytes()

    def line() -> str:
        return refused(cli, "import", str(path), "--artifacts", "other")

    for length in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "is damaged, or no set of attcli in safetensors" in line()
    path.write_bytes(whole[:-5] + b"12345")
    assert "checksum does not match" in line()
    huge = json.dumps({"lr": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(huge)) + huge)
    assert "is damaged" in line()
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    assert "is damaged" in line()
    arrays = load_file_of(whole)
    save_file(arrays, path)
    assert "its metadata lacks the key attcli" in line()
    for content, reason in (
        ("[1]", "its header is not what it should be"),
        ("{", "is damaged"),
        ("[" * 100_000, "is damaged"),
        (json.dumps({"kind": "synthetic"}), "its header is not what it should be"),
    ):
        save_file(arrays, path, {"attcli": content})
        assert reason in line()
    with_more = header_of(whole) | {"about": {**header_of(whole)["about"], "resolution": 10**9}}
    save_file(arrays, path, {"attcli": json.dumps(with_more)})
    assert "resolution" in line()
    save_file({**arrays, "more": arrays["lr"]}, path, {"attcli": json.dumps(header_of(whole))})
    assert "more does not belong there" in line()
    two = {**arrays, "lr": np.array([0.1, 0.2], np.float32)}
    save_file(two, path, {"attcli": json.dumps(header_of(whole) | {"sha256": artefact.checksum(two)})})
    assert "its learning rate is not one number" in line()
    assert not Path("other/synthetic.h5").exists()


def load_file_of(whole: bytes) -> dict:
    Path("whole.safetensors").write_bytes(whole)
    return load_file("whole.safetensors")


def header_of(whole: bytes) -> dict:
    Path("whole.safetensors").write_bytes(whole)
    with safe_open("whole.safetensors", framework="numpy") as file:
        return json.loads(file.metadata()["attcli"])
