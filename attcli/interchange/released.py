"""Distilled sets as the released codes keep them: images_best.pt, labels_best.pt and, by some codes, lr_best.pt.

The images are network inputs, so whoever uses them has to know how the dataset was normalised.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli.errors import UserError, one_line
from attcli.interchange import Format, Plain, packing, tensors

if TYPE_CHECKING:
    from torch import Tensor

    from attcli.interchange import Whole

FORMAT = Format("a set of the released codes, images_*.pt with labels_*.pt and lr_*.pt beside it")
NAME = re.compile(r"images(_.*)?\.pt")
WRITTEN = ("images_best.pt", "labels_best.pt", "lr_best.pt")


def recognises(path: Path) -> bool:
    """Whether it is a file of images, or a folder with just one."""
    return bool(NAME.fullmatch(path.name)) if path.is_file() else len(_inside(path)) == 1


def _inside(folder: Path) -> list[Path]:
    return [file for file in folder.glob("images*.pt") if NAME.fullmatch(file.name)]


def read(path: Path) -> Plain:
    """The set. UserError where its labels are missing, or it is none; the learning rate may be missing."""
    inside = [path] if path.is_file() else _inside(path)
    if len(inside) != 1:
        raise UserError(f"{path} holds {len(inside)} files images*.pt; name one of them")
    path = inside[0]
    match = NAME.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path}: a set of the released codes is called images_SOMETHING.pt; rename it")
    suffix = match[1] or ""
    beside = {name: path.with_name(f"{name}{suffix}.pt") for name in ("labels", "lr")}
    if not beside["labels"].exists():
        raise UserError(f"{beside['labels']} is missing, which holds the labels of {path}; put it there")
    images = tensors.tensor(path, tensors.load(path), "images", [4])
    if not images.is_floating_point():
        raise UserError(
            f"{path} holds images of type {images.dtype}; the released codes have floating-point ones; "
            "name another file"
        )
    labels = tensors.tensor(beside["labels"], tensors.load(beside["labels"]), "labels", [1, 2])
    lr = rate(beside["lr"]) if beside["lr"].exists() else None
    return Plain(images, labels, lr, one_line(path.name), tensors.digest(path).hex())


def rate(path: Path) -> float:
    """The learning rate in a file: a number, or a tensor of one."""
    value: Any = tensors.load(path)
    if not isinstance(value, (int, float)):
        value = tensors.tensor(path, value, "a learning rate", [0, 1])
        if value.numel() != 1:
            raise UserError(
                f"{path} holds {value.numel()} numbers, but a learning rate is one; "
                "move it elsewhere, and say the learning rate with --lr"
            )
    try:
        return float(value)
    except OverflowError:
        raise UserError(f"{path} holds a number that is too large to be a learning rate; name another file") from None


def losses(whole: Whole, variant: str) -> list[str]:
    """What the form has no place for."""
    return [*packing.of_the_code(whole, variant), *packing.of_the_rest(whole, variant)]


def files(folder: Path, whole: Whole) -> list[Path]:
    """What `write` writes."""
    return [folder / name for name in WRITTEN]


def write(folder: Path, whole: Whole, variant: str) -> None:
    """Write images, labels and learning rate, each as a tensor."""
    import torch

    distilled = packing.decoded(whole)
    content: tuple[Tensor, ...] = (distilled.variants[variant], distilled.labels, torch.from_numpy(whole.arrays["lr"]))
    for name, value in zip(WRITTEN, content, strict=True):
        tensors.save(folder / name, value.contiguous().clone())
