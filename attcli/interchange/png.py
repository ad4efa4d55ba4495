"""A folder of PNG files, one for each image, and metadata.csv with their classes and soft labels.

The pictures are what people see, in 8 bits; metadata.csv is in the form that datasets' image folders have (`file_name`,
`label`, `class`, and `logit_0` … for soft labels). set.json holds the learning rate and the header of the set's own
file, normaliser.safetensors the normaliser. A folder without these two is a set for the dataset that the settings say.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli.errors import UserError, one_line
from attcli.interchange import Format, Plain, details, packing, safetensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attcli.interchange import Whole
    from attcli.store.artefact import Header

FORMAT = Format("a folder of PNG files with metadata.csv")
TABLE, ABOUT = "metadata.csv", "set.json"
FILE, LABEL, CLASS, LOGIT = "file_name", "label", "class", "logit_"
MODES = {"L": 1, "RGB": 3}
"""Channels of the kinds of pictures that are read."""

WITHOUT = "move it elsewhere, and say what it said with --dataset and --lr"
"""The remedy where set.json cannot be used."""

BLOCK = 1 << 20
MOST_ROWS = 10**6
SMALL = 10**8
MEMORY_PER_BYTE = 60
"""Bytes of memory that a byte of the table may take when it is read: a cell without text takes that much."""
LARGEST_SIDE = 8192


def recognises(path: Path) -> bool:
    """Whether it is a folder with such a table."""
    return (path / TABLE).is_file()


def read(path: Path) -> Plain:
    """The set. UserError where it is none, or its pictures are not all of one size and colour."""
    import torch

    if not (path / TABLE).is_file():
        raise UserError(f"{path} has no {TABLE}; name a folder that has one")
    rows = _in_order(path, _rows(path))
    total = hashlib.sha256()
    _take_in(total, path / TABLE)
    images = torch.from_numpy(_pictures(path, [row[FILE] for row in rows], total))
    lr, header = _about(path / ABOUT) if (path / ABOUT).is_file() else (None, None)
    if header and len({row[FILE] for row in rows}) < len(rows):  # which attcli never writes
        raise UserError(f"{path / TABLE} is damaged: it names a picture twice; export the set again")
    normaliser = safetensors.read_normaliser(path / safetensors.NORMALISER, header.about) if header else None
    name = one_line(path.name) or "images"
    return Plain(images, _labels(path, rows), lr, name, total.hexdigest(), header, normaliser)


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of the table. UserError where a column is missing, or a row is not whole."""
    from attcli import runtime

    needed = MEMORY_PER_BYTE * (path / TABLE).stat().st_size
    if needed > max(SMALL, runtime.free_memory() / 2):
        raise UserError(f"{path / TABLE} takes {needed / 1e9:,.1f} GB of memory to read, more than is free")
    try:
        with (path / TABLE).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if lacking := [name for name in (FILE, LABEL) if name not in (reader.fieldnames or ())]:
                raise UserError(f"{path / TABLE} has no column {lacking[0]}; add it")
            rows: list[dict[str, str]] = []
            for row in reader:
                if len(rows) == MOST_ROWS:
                    raise UserError(f"{path / TABLE} has more than {MOST_ROWS:,} rows, which no set has; shorten it")
                if None in row or None in row.values():
                    raise UserError(
                        f"{path / TABLE}: line {reader.line_num} does not have a cell for each column; mend it"
                    )
                rows.append(row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path / TABLE} cannot be read as a table ({details(error)}); write it anew") from None
    if not rows:
        raise UserError(f"{path / TABLE} has no rows; add one for each picture")
    return rows


def _in_order(path: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Rows with soft labels class by class, as these do not tell the class themselves; others as they are.

    UserError unless there are as many rows of each class.
    """
    if not any(name.startswith(LOGIT) for name in rows[0]):
        return rows
    try:
        classes = [int(row[LABEL]) for row in rows]
    except ValueError as error:
        raise UserError(f"{path / TABLE} has a label that is no number ({details(error)}); mend it") from None
    counts = Counter(classes)
    if min(counts.values()) < max(counts.values()):
        fewest, most = min(counts, key=lambda c: counts[c]), max(counts, key=lambda c: counts[c])
        raise UserError(
            f"{path / TABLE} has {counts[fewest]} images of class {fewest} and {counts[most]} of class {most}; make "
            f"them as many"
        )
    return [row for _, row in sorted(zip(classes, rows, strict=True), key=lambda pair: pair[0])]


def _labels(path: Path, rows: list[dict[str, str]]) -> Tensor:
    """Classes (n,), or logits f32 (n, K) where the table has columns for them."""
    import torch

    logits = [name for name in rows[0] if name.startswith(LOGIT)]
    if logits and sorted(logits) != sorted(f"{LOGIT}{number}" for number in range(len(logits))):
        raise UserError(f"{path / TABLE}: the columns of logits are not one for each class; mend them")
    try:
        if logits:
            return torch.tensor([[float(row[f"{LOGIT}{k}"]) for k in range(len(logits))] for row in rows])
        return torch.tensor([int(row[LABEL]) for row in rows])
    except (ValueError, OverflowError, RuntimeError) as error:
        raise UserError(f"{path / TABLE} has a label that is no number ({details(error)}); mend it") from None


def _pictures(path: Path, names: list[str], total: Any) -> NDArray[np.uint8]:
    """The pictures u8 (n, C, H, W). Sizes are compared before anything is decoded; `total` takes in all files."""
    import numpy as np

    from attcli import runtime

    shape, pictures = None, []
    for name in names:
        file = _inside(path, name)
        channels, side = _form(file)
        if shape is None:
            shape, needed = (channels, side), 8 * len(names) * channels * side**2
            if needed > runtime.free_memory() / 2:
                raise UserError(
                    f"the pictures in {path} take {needed / 1e9:,.1f} GB of memory, more than is free; "
                    "close other programs"
                )
        if shape != (channels, side):
            raise UserError(
                f"{file} has {channels} channels of {side}x{side}, others {shape[0]} of {shape[1]}x{shape[1]}; "
                "save all alike"
            )
        _take_in(total, file)
        pictures.append(_decoded(file).reshape(side, side, channels).transpose(2, 0, 1))
    return np.stack(pictures)


def _take_in(total: Any, path: Path) -> None:
    """Add the bytes of a file to a digest."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total.update(block)


def _inside(path: Path, name: str) -> Path:
    """The file of that name in a folder. UserError where there is none, or it lies elsewhere."""
    try:
        file = (path / name).resolve()
        if file.is_relative_to(path.resolve()) and file.is_file():
            return file
    except (OSError, ValueError):  # no name that a file can have
        pass
    raise UserError(f"{path / TABLE} names {name[:100]}, which is no file in the folder; mend it")


def _form(file: Path) -> tuple[int, int]:
    """Channels and side of a picture, which is not decoded."""
    with _opened(file) as image:
        if image.mode not in MODES:
            raise UserError(f"{file} is of the kind {image.mode}; save it in 8-bit grey or colour, not transparent")
        if image.width != image.height or image.width > LARGEST_SIDE:
            raise UserError(f"{file} is of {image.width}x{image.height} pixels; attcli takes square images; crop it")
        return MODES[image.mode], int(image.width)


def _decoded(file: Path) -> NDArray[np.uint8]:
    import numpy as np

    with _opened(file) as image:
        return np.asarray(image, np.uint8)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A PNG file, open; whatever is wrong with it is a UserError."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=["PNG"]) as image:
                yield image
    except UserError:
        raise
    except Exception as error:  # Pillow raises anything on damaged files
        raise UserError(f"{file} is no PNG file, or damaged ({details(error)}); save it anew") from None


def _about(path: Path) -> tuple[float, Header]:
    """The learning rate, and the header of the set's own file."""
    try:
        if path.stat().st_size > safetensors.LARGEST_HEADER:
            raise ValueError("it is too long")
        content = json.loads(path.read_text(encoding="utf-8"))
        header = safetensors.header_in(path, {safetensors.OURS: json.dumps(content["header"])})
        lr = content["lr"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({details(error)}); {WITHOUT}") from None
    if not isinstance(lr, float) or not math.isfinite(lr):
        raise UserError(f"{path} is damaged (its learning rate is no number); {WITHOUT}")
    return lr, header


def losses(whole: Whole, variant: str) -> list[str]:
    """What the form has no place for."""
    lost = packing.of_pictures(whole, variant)
    return [*(packing.of_the_code(whole, variant) if lost else []), *lost, *packing.of_the_other(whole, variant)]


def _names(whole: Whole) -> list[str]:
    """The file of each image: a folder for each class."""
    classes = len(whole.header.about["classes"])
    each = packing.count(whole) // classes
    return [f"{label:05d}/{number:05d}.png" for label in range(classes) for number in range(each)]


def files(folder: Path, whole: Whole) -> list[Path]:
    """What `write` writes."""
    if whole.header.about["channels"] not in MODES.values():
        raise UserError(
            f"PNG files have 1 or 3 channels, the set's images {whole.header.about['channels']}; "
            "use another form, as --to safetensors"
        )
    whole.known_normaliser()
    return [folder / name for name in (TABLE, ABOUT, safetensors.NORMALISER, *_names(whole))]


def earlier(folder: Path) -> list[Path]:
    """The pictures of the set that was exported into this folder before, if there was one."""
    if not (folder / ABOUT).is_file() or not (folder / TABLE).is_file():
        return []
    pictures = []
    with suppress(UserError):  # a table that attcli did not write
        for row in _rows(folder):
            with suppress(UserError):  # a picture that is not there any more
                pictures.append(_inside(folder, row[FILE]))
    return pictures


def write(folder: Path, whole: Whole, variant: str) -> None:
    """Write the pictures, then the table, so that a folder with a table is whole."""
    from PIL import Image

    from attcli.atomic import atomic
    from attcli.store.files import write_text

    distilled = packing.decoded(whole)
    names = _names(whole)
    for name, picture in zip(names, packing.pictures(whole, variant)[0], strict=True):
        array = picture.permute(1, 2, 0).squeeze(2).contiguous().numpy()
        with atomic(folder / name) as temporary:
            Image.fromarray(array).save(temporary, format="PNG")
    safetensors.write_normaliser(folder / safetensors.NORMALISER, whole)
    about = {"lr": distilled.lr, "header": json.loads(safetensors.header_text(whole))}
    write_text(folder / ABOUT, json.dumps(about, indent=1, sort_keys=True) + "\n")
    soft = distilled.labels.tolist() if distilled.labels.is_floating_point() else None
    classes = whole.header.about["classes"]
    with atomic(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([FILE, LABEL, CLASS, *(f"{LOGIT}{k}" for k in range(len(classes)) if soft)])
        for row, name in enumerate(names):
            label = row * len(classes) // len(names)
            table.writerow([name, label, classes[label], *(map(repr, soft[row]) if soft else ())])
