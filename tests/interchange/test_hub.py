"""Sets on the Hugging Face Hub, for which a server on this machine stands in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attcli.errors import UserError
from attcli.interchange import hub, huggingface, packing
from attcli.store.files import write_text
from tests.conftest import Cli
from tests.interchange import hub_server
from tests.test_cli import refused

pytest.importorskip("huggingface_hub")
REPOSITORY = Path(__file__).parents[2]


class Client:
    """Runs Python with a Hub at an address, in a process of its own, as the address is read when it is imported."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, *words: str, code: int = 0, token: str = hub_server.TOKEN) -> str:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            "HF_ENDPOINT": self.address,
            "HF_TOKEN": token,
            "HF_HOME": str(Path("hub").absolute()),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        environment.pop("HF_HUB_OFFLINE", None)
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr


def exported(folder: Path) -> None:
    """What an export has, but for the pictures, which take another package."""
    whole = packing.whole_in(Path("artifacts/synthetic.h5"))
    huggingface.safetensors.write(folder, whole, "synthetic")
    write_text(folder / huggingface.CARD, huggingface.card(whole, soft=False))


def test_the_normaliser_of_a_set_that_was_there_before_is_not_uploaded(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interface:
        """Stands in for the Hub's: remembers which files it was asked to upload."""

        def create_repo(self, *names: str, **options: object) -> None: ...

        def upload_folder(self, allow_patterns: list[str], **options: object) -> None:
            uploaded.append(sorted(allow_patterns))

    monkeypatch.setattr("huggingface_hub.HfApi", Interface)
    uploaded: list[list[str]] = []
    cli.small("distill")
    exported(Path("exported/huggingface"))
    Path("exported/huggingface/normaliser.safetensors").write_bytes(b"of another set")
    hub.pushed(Path("exported/huggingface"), "me/digits", private=True, message="")
    assert len(uploaded) == 1
    assert {"README.md", "distilled.safetensors"} <= set(uploaded[0])
    assert "normaliser.safetensors" not in uploaded[0]


@pytest.mark.slow
def test_a_set_is_uploaded_and_loaded_again(cli: Cli) -> None:
    cli.small("distill", "--set", "prepare.normalise=zca")
    exported(Path("exported/huggingface"))
    Path("exported/huggingface/secret.txt").write_text("not for others")
    with hub_server.running() as (server, address):
        client = Client(address)
        assert client("-m", "attcli", "push", "me/digits", "--private") == "hf://me/digits\n"
        assert sorted(server.datasets["me/digits"]) == ["README.md", "distilled.safetensors", "normaliser.safetensors"]
        assert server.private == {"me/digits": True}
        for name, content in server.datasets["me/digits"].items():
            assert content == Path("exported/huggingface", name).read_bytes()
        compare = (
            "import attcli, torch\n"
            "a, b = attcli.load('hf://me/digits'), attcli.load('artifacts/synthetic.h5')\n"
            "assert all(torch.equal(a.variants[name], b.variants[name]) for name in b.variants)\n"
            "assert a.normaliser.digest() == b.normaliser.digest()\n"
            "print(a.lr == b.lr, a.protocol == b.protocol)"
        )
        assert client("-c", compare) == "True True\n"
        load = "import attcli\ntry:\n    attcli.load('hf://me/{}')\nexcept attcli.UserError as error:\n    print(error)"
        assert "hf://me/none cannot be downloaded" in client("-c", load.format("none"))
        server.datasets["me/other"] = {"README.md": b"other"}
        server.private["me/other"] = False
        assert "holds no distilled.safetensors" in client("-c", load.format("other"))
        lines = client("-m", "attcli", "push", "me/digits", code=2, token="hf_wrong").splitlines()
        assert len(lines) == 1
        assert "me/digits cannot be uploaded" in lines[0]
        assert "log in with `hf auth login`" in lines[0]


def test_what_is_no_export_is_not_uploaded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "exported/huggingface holds no exported set" in refused(cli, "push", "me/digits")
    cli.small("distill")
    exported(Path("exported/huggingface"))
    assert "is no address on the Hub" in refused(cli, "push", "digits")
    path = Path("exported/huggingface/distilled.safetensors")
    path.write_bytes(path.read_bytes()[:-4] + b"1234")
    assert "its checksum does not match" in refused(cli, "push", "me/digits")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"need the package huggingface_hub .* pip install 'attcli\[hub\]'"):
        hub.downloaded("hf://me/digits")
