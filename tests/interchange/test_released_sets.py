"""Sets of the released codes: images_*.pt, labels_*.pt, lr_*.pt."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attcli import interchange
from attcli.store import synthetic
from tests.conftest import Cli
from tests.test_cli import refused

RESULT = Path("artifacts/synthetic.h5")


def write(images: Tensor, labels: Tensor, lr: object = 0.03, suffix: str = "_best") -> Path:
    """A set as the released codes save it."""
    torch.save(labels, f"labels{suffix}.pt")
    if lr is not None:
        torch.save(lr, f"lr{suffix}.pt")
    torch.save(images, f"images{suffix}.pt")
    return Path(f"images{suffix}.pt")


def hard(each: int = 1) -> Tensor:
    return torch.arange(10).repeat_interleave(each)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("soft", [False, True])
def test_a_released_set_goes_in_and_out_bit_for_bit(cli: Cli, dtype: torch.dtype, soft: bool) -> None:
    images, lr = torch.randn(20, 1, 8, 8).to(dtype), torch.tensor(0.0123)
    labels = torch.randn(20, 10) if soft else hard(2)
    cli.small("import", str(write(images, labels, lr)))
    kept = synthetic.read(RESULT)
    wide = images if dtype == torch.float64 else images.float()
    assert torch.equal(kept.variants["synthetic"], wide)
    assert torch.equal(kept.labels, labels)
    assert torch.tensor(kept.lr) == lr
    assert kept.size["bytes_per_class"] == pytest.approx((images.nbytes + 4 + (labels.nbytes if soft else 0)) / 10, 0.1)
    cli("export", "--to", "released", "--out", "again")
    again = [torch.load(f"again/{name}_best.pt", weights_only=True) for name in ("images", "labels", "lr")]
    assert torch.equal(again[0], wide)
    assert torch.equal(again[1], labels)
    assert torch.equal(again[2], lr)


def test_a_folder_called_report_is_not_ours_to_remove(cli: Cli) -> None:
    thesis = Path("artifacts/report/thesis.tex")
    thesis.parent.mkdir(parents=True)
    thesis.touch()
    cli.small("import", str(write(torch.randn(10, 1, 8, 8), hard(), 0.05)))
    assert thesis.exists()


def test_an_imported_set_is_scored(cli: Cli) -> None:
    cli.small("import", str(write(torch.randn(10, 1, 8, 8), hard(), 0.05)))
    report = json.loads(cli.small("evaluate", "--json"))
    assert list(report["scores"]["convnet"]) == ["synthetic", "random"]
    assert report["set"]["method"] == "imported"
    assert report["set"]["lr"] == pytest.approx(0.05)
    assert "nothing to do: 8 networks (convnet; 2 repeats; synthetic, random at" in cli.small("evaluate", "--dry-run")
    assert Path("artifacts/images.png").exists()
    line = refused(cli, "distill", small=True)
    assert "synthetic.h5 was imported from images_best.pt; --force overwrites it" in line
    line = refused(cli, "evaluate", "--set", "network.width=16", "--no-auto", small=True)
    assert "synthetic.h5 was imported with other settings (network.width is 8 there, 16 asked for)" in line
    assert "score it as it is, or run `attcli import` with them" in line
    for words in ((), (str(RESULT),)):
        line = refused(cli, "evaluate", *words, "--set", "prepare.normalise=zca", small=True)
        assert "prepare.normalise is standardise there, zca asked for" in line
    cli.small("distill", "--force")
    assert "imported" not in synthetic.read(RESULT).about
    line = refused(cli, "import", "images_best.pt", small=True)
    assert "synthetic.h5 was distilled here, not imported from images_best.pt; --force overwrites it" in line
    assert not Path("artifacts/scores.json").exists()


def test_a_set_among_the_results_is_not_replaced_unless_forced(cli: Cli) -> None:
    cli.small("evaluate")
    before = RESULT.read_bytes()
    path = str(write(torch.randn(10, 1, 8, 8), hard(), 0.05))
    assert "synthetic.h5 was distilled here, not imported from" in refused(cli, "import", path, small=True)
    assert RESULT.read_bytes() == before
    cli.small("import", path, "--force")
    left = sorted(path.name for path in Path("artifacts").iterdir() if not path.name.startswith("."))
    assert left == ["dataset.h5", "experts", "images.png", "normaliser.h5", "snapshots", "synthetic.h5"]
    assert not list(Path("artifacts/snapshots").glob("*.h5"))
    cli.small("distill", "--force")
    assert RESULT.read_bytes() == before  # the work that was kept is taken up


def test_images_in_another_order_are_put_class_by_class(cli: Cli) -> None:
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    images, labels = torch.randn(20, 1, 8, 8), hard(2)
    cli.small("import", str(write(images[order], labels[order])))
    kept = synthetic.read(RESULT)
    assert torch.equal(kept.labels, labels)
    pairs = [{tuple(x.flatten().tolist()) for x in images[labels == c]} for c in range(10)]
    assert [{tuple(x.flatten().tolist()) for x in kept.variants["synthetic"][labels == c]} for c in range(10)] == pairs


def test_an_export_is_what_others_load(cli: Cli) -> None:
    cli.small("distill", "--set", "distill.labels=learned")
    own = synthetic.read(RESULT)
    said = cli.small_log("distill", "--set", "distill.labels=learned")
    assert "place" not in said
    paths = cli("export", "--to", "released", "--variant", "ema").splitlines()
    assert paths == [f"exported/released/{name}_best.pt" for name in ("images", "labels", "lr")]
    images, labels, lr = (torch.load(path, weights_only=True) for path in paths)
    assert torch.equal(images, own.variants["ema"])
    assert torch.equal(labels, own.labels)
    assert lr.ndim == 0
    assert float(lr) == own.lr
    assert "images_best.pt is there already; --force overwrites it" in refused(cli, "export", "--to", "released")
    cli("export", "--to", "released", "--force")
    assert torch.equal(torch.load(paths[0], weights_only=True), own.variants["synthetic"])
    snapshot = str(sorted(Path("artifacts/snapshots").iterdir())[-1])
    cli("export", snapshot, "--to", "released", "--out", "of-snapshot")
    assert torch.equal(torch.load("of-snapshot/images_best.pt", weights_only=True), own.variants["synthetic"])


@pytest.mark.parametrize("form", ["released", "png", "safetensors"])
def test_an_export_that_is_cut_short_is_no_mixture_of_two_sets(
    form: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.small("distill")
    before = [Path(path) for path in cli("export", "--to", form).splitlines()]

    def killed(folder: Path, whole: object, variant: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interchange.load(form), "write", killed)
    cli("export", "--to", form, "--force", code=130)
    assert not [path for path in before if path.exists()]


def test_an_export_has_the_same_bytes_whenever_it_is_made(cli: Cli) -> None:
    cli.small("distill", "--set", "distill.iterations=1", "--set", "buffer.experts=1")
    for form in ("released", "released-experts"):
        first, second = Path("exported", form), Path("again", form)
        cli("export", "--to", form)
        cli("export", "--to", form, "--out", str(second))
        assert [path.read_bytes() for path in sorted(first.iterdir())] == [
            path.read_bytes() for path in sorted(second.iterdir())
        ]


def test_what_a_form_has_no_place_for_is_said(cli: Cli) -> None:
    cli.small("distill", "--set", "distill.parameterisation=multiformation", "--set", "distill.storage=uint8")
    result = cli._invoke(["export", "--to", "released"])
    (line,) = [line for line in result.stderr.splitlines() if "no place for" in line]
    assert "released has no place for how the images are kept (multiformation in uint8: 16 images per class in" in line
    assert "the other images of the set (ema)" in line
    assert "the normaliser (standardise) and the settings" in line
    images = torch.load("exported/released/images_best.pt", weights_only=True)
    assert torch.equal(images, synthetic.read(RESULT).variants["synthetic"])
    words = [sys.executable, "-m", "attcli", "export", "--to", "released", "--out", "again"]
    in_a_process = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    assert line.partition(" has no")[2] in in_a_process  # all but the time of the line


@pytest.mark.parametrize(
    ("images", "labels", "lr", "message"),
    [
        (torch.zeros(10, 1, 8, 8), hard(), None, "no learning rate comes with images_best.pt"),
        (torch.zeros(10, 1, 8, 8), hard(), -0.1, "the learning rate of images_best.pt is -0.1"),
        (
            torch.zeros(10, 1, 8, 8),
            hard(),
            torch.zeros(2),
            "holds 2 numbers, but a learning rate is one; move it elsewhere",
        ),
        (
            torch.zeros(10, 3, 8, 8),
            hard(),
            0.1,
            "images of shape (3, 8, 8), the dataset's are (1, 8, 8); name the dataset that it was made of",
        ),
        (torch.zeros(10, 8, 8), hard(), 0.1, "images of shape (10, 8, 8)"),
        (torch.zeros(9, 1, 8, 8), hard(), 0.1, "holds 9 images and 10 labels"),
        (torch.zeros(11, 1, 8, 8), torch.arange(11), 0.1, "has labels from 0 to 10, the dataset has 10 classes"),
        (torch.zeros(11, 1, 8, 8), torch.cat([hard(), hard()[:1]]), 0.1, "1 images of class 1 and 2 of class 0"),
        (torch.zeros(10, 1, 8, 8), torch.zeros(10, 9), 0.1, "labels for 9 classes, the dataset has 10"),
        (torch.zeros(11, 1, 8, 8), torch.zeros(11, 10), 0.1, "11 images, not as many for each of 10 classes"),
        (torch.full((10, 1, 8, 8), float("inf")), hard(), 0.1, "images or labels that are not finite"),
        (torch.zeros(10, 1, 8, 8, dtype=torch.uint8), hard(), 0.1, "images of type torch.uint8"),
        (torch.zeros(10, 1, 8, 8).to_sparse(), hard(), 0.1, "asks for torch._utils._rebuild_sparse_tensor"),
        (torch.zeros(0, 1, 8, 8), hard()[:0], 0.1, "holds 0 images"),
        (["text"], hard(), 0.1, "holds no tensor of images"),
    ],
)
def test_sets_that_do_not_fit(cli: Cli, images: Tensor, labels: Tensor, lr: object, message: str) -> None:
    assert message in refused(cli, "import", str(write(images, labels, lr)), small=True)
    assert not RESULT.exists()


def test_labels_are_needed(cli: Cli) -> None:
    path = write(torch.zeros(10, 1, 8, 8), hard())
    Path("labels_best.pt").unlink()
    assert "labels_best.pt is missing, which holds the labels of" in refused(cli, "import", str(path), small=True)
    assert "the form to write is missing; add --to" in refused(cli, "export")
    line = refused(cli, "evaluate", str(path), "--no-auto", small=True)
    assert "images_best.pt is no file of attcli" in line
    assert "`attcli import images_best.pt` takes in sets and experts of other programs" in line
    assert "no images called ema" in _exported(cli, "--variant", "ema")
    assert "choose synthetic or ema" in _exported(cli, "--variant", "best")


def _exported(cli: Cli, *words: str) -> str:
    cli.small("import", str(write(torch.zeros(10, 1, 8, 8), hard())))
    return refused(cli, "export", "--to", "released", *words)
