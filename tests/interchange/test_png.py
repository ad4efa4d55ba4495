"""Sets as folders of PNG files with a table."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attcli import interchange
from attcli.cli.interchange import WRITTEN
from attcli.store import synthetic
from tests.conftest import Cli
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")
OUT = Path("exported/png")


def table(folder: Path = OUT) -> list[dict[str, str]]:
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("normalise", ["standardise", "zca"])
def test_pictures_labels_and_header_go_out_and_in(cli: Cli, normalise: str) -> None:
    words = ("--set", "distill.labels=learned", "--set", f"prepare.normalise={normalise}")
    cli.small("distill", *words)
    own = synthetic.read(RESULT)
    assert own.normaliser is not None
    paths = cli("export", "--to", "png").splitlines()
    assert len(list(OUT.rglob("*.*"))) == 13
    assert paths[:2] == ["exported/png/metadata.csv", "exported/png/set.json"]
    assert paths[10:] == ["and 3 more files in exported/png"]
    cli("import", str(OUT), "--artifacts", "other")
    again = synthetic.read(Path("other/synthetic.h5"))
    assert torch.equal(again.labels, own.labels)
    assert again.lr == own.lr
    assert again.normaliser is not None
    assert again.normaliser.digest() == own.normaliser.digest()
    kept = {name: again.about[name] for name in ("dataset", "classes", "method", "network", "protocol", "iteration")}
    assert kept == {name: own.about[name] for name in kept}
    assert again.about["made_by"] == own.settings
    plain = own.normaliser.inverse(own.variants["synthetic"]).clamp(0, 1)
    assert (own.normaliser.inverse(again.variants["synthetic"]) - plain).abs().max() < 0.51 / 255
    # a set of such pictures is what it is: everything comes back, bit for bit
    cli("export", "other/synthetic.h5", "--to", "png", "--out", "second")
    for path in [*OUT.rglob("*.png"), OUT / "metadata.csv"]:
        assert Path("second", path.relative_to(OUT)).read_bytes() == path.read_bytes()
    cli("import", "second", "--artifacts", "third")
    third = synthetic.read(Path("third/synthetic.h5"))
    assert torch.equal(third.variants["synthetic"], again.variants["synthetic"])
    assert third.size == again.size
    assert again.size["bytes_per_class"] < own.size["bytes_per_class"]


def test_a_damaged_set_is_replaced_by_an_imported_one_only_if_that_is_forced(cli: Cli) -> None:
    cli.small("distill")
    cli("export", "--to", "png")
    RESULT.write_bytes(RESULT.read_bytes()[:-10])
    before = sorted(Path("artifacts").rglob("*"))
    assert "synthetic.h5 is damaged or cut short" in refused(cli, "import", str(OUT))
    assert sorted(Path("artifacts").rglob("*")) == before
    cli("import", str(OUT), "--force")
    assert synthetic.read(RESULT).about["iteration"]
    assert not Path("artifacts/history.h5").exists()


def test_pictures_of_an_earlier_set_do_not_stay(cli: Cli) -> None:
    cli.small("distill", "--ipc", "2")
    cli("export", "--to", "png")
    (OUT / "notes.txt").write_text("mine")
    assert len(list(OUT.rglob("*.png"))) == 20
    cli.small("distill", "--force")
    cli("export", "--to", "png", "--force")
    assert {f"{OUT}/{row['file_name']}" for row in table()} == {str(file) for file in OUT.rglob("*.png")}
    assert (OUT / "notes.txt").exists()


def test_a_set_without_its_normaliser_leaves_an_earlier_export_alone(cli: Cli) -> None:
    cli.small("distill", "--set", "prepare.normalise=zca")
    cli("export", "--to", "png")
    for name in ("normaliser.h5", "dataset.h5"):
        Path("artifacts", name).unlink(missing_ok=True)
    before = sorted(OUT.rglob("*.*"))
    assert "normaliser is missing" in refused(cli, "export", "--to", "png", "--force")
    assert sorted(OUT.rglob("*.*")) == before


def test_what_is_lost_is_said(cli: Cli) -> None:
    cli.small("distill")
    (line,) = [x for x in cli._invoke(["export", "--to", "png"]).stderr.splitlines() if "no place" in x]
    assert "png has no place for exact pixels: they are rounded to 256 values from 0 to 1" in line
    cli("import", str(OUT), "--artifacts", "other")
    again = cli._invoke(["export", "other/synthetic.h5", "--to", "png", "--out", "second"]).stderr
    assert "no place" not in again


def test_pictures_of_others_are_a_set_for_the_dataset_that_is_said(cli: Cli) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (10, 8, 8), np.uint8)
    Path("mine").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"mine/{number}.png")
    lines = ["file_name,label", *(f"{number}.png,{number}" for number in range(10))]
    Path("mine/metadata.csv").write_text("\n".join(lines))
    assert "no learning rate comes with mine" in refused(cli, "import", "mine", small=True)
    cli.small("import", "mine", "--lr", "0.05")
    kept = synthetic.read(RESULT)
    assert kept.normaliser is not None
    values = kept.normaliser.inverse(kept.variants["synthetic"])
    assert np.array_equal((values * 255).round().numpy().astype(np.uint8)[:, 0], pictures)
    assert kept.size["bytes_per_class"] == pytest.approx(64, abs=2)
    report = json.loads(cli.small("evaluate", "--json", "--baselines", "random"))
    assert report["scores"]["convnet"]["synthetic"]["n"] == 2


def test_soft_labels_are_put_in_the_order_of_their_classes(cli: Cli) -> None:
    Path("mine").mkdir()
    names = [f"logit_{k}" for k in range(10)]
    lines = [f"file_name,label,{','.join(names)}"]
    for number in range(20):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(f"mine/{number}.png")
        logits = [str(float(k == number % 10) + number / 100) for k in range(10)]
        lines.append(f"{number}.png,{number % 10},{','.join(logits)}")
    Path("mine/metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheets save it
    cli.small("import", "mine", "--lr", "0.05")
    kept = synthetic.read(RESULT)
    assert kept.labels.argmax(dim=1).tolist() == [row // 2 for row in range(20)]
    assert kept.normaliser is not None
    values = kept.normaliser.inverse(kept.variants["synthetic"])[:, 0, 0, 0]
    assert (values * 255).round().int().tolist() == [number for k in range(10) for number in (k, k + 10)]
    lines[1] = lines[1].replace("0.png,0", "0.png,1")
    Path("mine/metadata.csv").write_text("\n".join(lines))
    said = refused(cli, "import", "mine", "--lr", "0.05", "--artifacts", "other", small=True)
    assert "has 1 images of class 0 and 3 of class 1; make them as many" in said


def test_damaged_and_hostile_folders_give_one_line(cli: Cli) -> None:
    cli.small("distill")
    cli("export", "--to", "png", "--out", "whole")

    def line() -> str:
        return refused(cli, "import", "folder", "--artifacts", "other")

    def changed(name: str, content: bytes) -> str:
        shutil.rmtree("folder", ignore_errors=True)
        shutil.copytree("whole", "folder")
        Path("folder", name).write_bytes(content)
        return line()

    png = Path("whole/00000/00000.png").read_bytes()
    rows = Path("whole/metadata.csv").read_bytes()
    first = b"00000/00000.png"
    Path("outside.png").write_bytes(png)
    for name in (b"../outside.png", b"/etc/passwd", b"00000/none.png", b"", b"x" * 300):
        assert "which is no file in the folder" in changed("metadata.csv", rows.replace(first, name))
    shutil.rmtree("folder")
    shutil.copytree("whole", "folder")
    Path("folder/00000/00000.png").unlink()
    Path("folder/00000/00000.png").symlink_to(Path("outside.png").resolve())
    assert "which is no file in the folder" in line()
    for length in (0, 10, len(png) // 2):
        assert "is no PNG file, or damaged" in changed("00000/00000.png", png[:length])
    bomb = png.replace(png[16:24], (60_000).to_bytes(4, "big") * 2)
    assert "is no PNG file, or damaged" in changed("00000/00000.png", bomb)
    Image.new("L", (16, 16)).save("larger.png")
    assert "has 1 channels of 16x16" in changed("00009/00000.png", Path("larger.png").read_bytes())
    Image.new("RGBA", (8, 8)).save("clear.png")
    assert "is of the kind RGBA" in changed("00009/00000.png", Path("clear.png").read_bytes())
    Image.new("L", (8, 9)).save("long.png")
    assert "attcli takes square images" in changed("00009/00000.png", Path("long.png").read_bytes())
    for content, message in (
        (b"", "has no column file_name"),
        (b"file_name,label\n", "has no rows"),
        (b"file_name\n1.png\n", "has no column label"),
        (rows + b"more\n", "does not have a cell for each column"),
        (rows.replace(b",0,0", b",zero,0"), "a label that is no number"),
        (rows.replace(b"00003/00000", b"00007/00000"), "names a picture twice; export the set again"),
        (b"\xff\xfe" + rows, "cannot be read as a table"),
        (rows.replace(b"class", b"logit_1"), "the columns of logits are not one for each class"),
    ):
        assert message in changed("metadata.csv", content)
    about = json.loads(Path("whole/set.json").read_text())
    for wrong in ([], {}, about | {"lr": "x"}, about | {"lr": float("nan")}, about | {"header": {}}):
        assert "set.json is damaged" in changed("set.json", json.dumps(wrong).encode())
    assert "the learning rate of folder is -1" in changed("set.json", json.dumps(about | {"lr": -1.0}).encode())
    assert not Path("other/synthetic.h5").exists()


def test_the_help_names_all_forms_that_are_written(cli: Cli) -> None:
    assert interchange.names(writes=True) == WRITTEN
    shown = cli("export", "--help")
    assert all(name in shown for name in WRITTEN)
