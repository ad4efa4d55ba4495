"""attcli.load: sets in any form."""

from pathlib import Path

import pytest
import torch

import attcli
from tests.conftest import Cli
from tests.interchange.test_released_sets import hard, write

RESULT = Path("artifacts/synthetic.h5")


@pytest.mark.parametrize("form", ["safetensors", "png", "released"])
def test_an_exported_set_is_loaded(cli: Cli, form: str) -> None:
    cli.small("distill", "--set", "distill.labels=learned")
    own = attcli.load(RESULT)
    cli("export", "--to", form)
    again = attcli.load(Path("exported", form))
    assert torch.equal(again.probabilities, own.probabilities)
    assert again.lr == own.lr
    assert again.classes == own.classes
    if form == "png":
        assert own.normaliser is not None
        plain = own.normaliser.inverse(own.images).clamp(0, 1)
        assert (own.normaliser.inverse(again.images) - plain).abs().max() < 0.51 / 255
    else:
        assert torch.equal(again.images, own.images)
    assert list(again.variants) == (["synthetic", "ema"] if form == "safetensors" else ["synthetic"])
    assert (again.normaliser is None) == (form == "released")
    assert (again.protocol == own.protocol) == (form != "released")
    with pytest.raises(attcli.UserError, match=r"leave (lr|--lr \(in Python lr\)) out"):
        attcli.load(Path("exported", form), lr=0.5)
    assert isinstance(again.train("mlp"), torch.nn.Module)


def test_a_released_set_needs_its_learning_rate(cli: Cli) -> None:
    images = torch.randn(20, 3, 32, 32)
    path = write(images, hard(2), None)
    with pytest.raises(attcli.UserError, match=r"no learning rate comes with images_best\.pt"):
        attcli.load(path)
    loaded = attcli.load(path, lr=0.02)
    assert torch.equal(loaded.images, images)
    assert loaded.labels.tolist() == hard(2).tolist()
    assert loaded.protocol.epochs == 1000
    assert loaded.size["images_per_class"] == 2
    assert sum(p.numel() for p in loaded.build("convnet").parameters()) == 320_010
    with pytest.raises(attcli.UserError, match="normaliser is missing"):
        loaded.score("convnet", (images, loaded.labels))
    torch.save(0.5, path.with_name("lr_best.pt"))
    with pytest.raises(attcli.UserError, match=r"comes with the learning rate 0\.5; leave --lr \(in Python lr\) out"):
        attcli.load(path, lr=0.02)
    assert attcli.load(path).lr == 0.5


def test_what_is_no_set_is_told(cli: Cli) -> None:
    with pytest.raises(attcli.UserError, match=r"nowhere is missing"):
        attcli.load("nowhere")
    Path("notes.txt").write_text("notes")
    with pytest.raises(attcli.UserError, match=r"notes.txt is in no form that attcli can read"):
        attcli.load("notes.txt")
    torch.save([], "replay_buffer_0.pt")
    with pytest.raises(attcli.UserError, match=r"is no set that can be read"):
        attcli.load("replay_buffer_0.pt")
    with pytest.raises(attcli.UserError, match=r"hf://name is no address on the Hub; write it as hf://owner/name"):
        attcli.load("hf://name")
    with pytest.raises(attcli.UserError, match=r"is no address on the Hub"):
        attcli.load("hf://../../etc/passwd")


def test_what_attcli_wrote_itself_is_told(cli: Cli) -> None:
    cli.small("distill")
    for words in (["import", "artifacts"], ["import", str(RESULT)]):
        said = cli(*words, "--dataset", "digits", "--artifacts", "other", code=2)
        assert f"{RESULT} is a set of attcli itself; name that file, as in `attcli evaluate {RESULT}`" in said
    with pytest.raises(attcli.UserError, match="is a set of attcli itself"):
        attcli.load("artifacts")
    said = cli("import", "artifacts/dataset.h5", "--dataset", "digits", "--artifacts", "other", code=2)
    assert "dataset.h5 is a file of attcli itself, but no set ('dataset'); name another" in said
