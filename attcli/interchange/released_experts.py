"""Experts as the released codes keep them: replay_buffer_0.pt …, each with a list of experts.

An expert is a list of epochs, from initialisation on; an epoch the list of the network's parameters, in the order of
its modules (which is ours). `attcli buffer` keeps the same numbers as rows.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli.errors import UserError
from attcli.interchange import Format, tensors

if TYPE_CHECKING:
    from attcli.store.experts import Experts

FORMAT = Format("experts of the released codes, replay_buffer_*.pt", holds="experts")
NAME = re.compile(r"replay_buffer_(\d+)\.pt")
MOST_PARAMETERS = 1000
"""Parameters that are looked at for a hint: a ConvNet of 100 blocks has 402."""

EACH = 10
"""Experts in a file, as the released codes write them."""

Layout = list[list[Any]]
"""Name and shape of each parameter, as headers have it."""


def recognises(path: Path) -> bool:
    """Whether it is such a file, or a folder of some."""
    return bool(NAME.fullmatch(path.name)) if path.is_file() else bool(buffers_in(path))


def buffers_in(folder: Path) -> list[Path]:
    """The files of experts in a folder, by their numbers."""
    files = [file for file in folder.glob("replay_buffer_*.pt") if NAME.fullmatch(file.name)]
    return sorted(files, key=_number)


def _number(file: Path) -> int:
    match = NAME.fullmatch(file.name)
    return int(match[1]) if match else 0


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and those in folders that are named, by their numbers.

    UserError where one is named twice, or a folder has none.
    """
    files: list[Path] = []
    for path in paths:
        inside = buffers_in(path) if path.is_dir() else [path]
        if not inside:
            raise UserError(f"{path} holds no replay_buffer_*.pt; name the files")
        files += inside
    if len({file.resolve() for file in files}) < len(files):
        raise UserError("a file of experts is named twice; name each once")
    return files


def digest_of(digests: Sequence[bytes]) -> str:
    """What experts from files with these SHA-256s are called: the setting buffer.imported."""
    return f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}"


@dataclass(frozen=True)
class _Rows(Sequence[Any]):
    """An expert's parameters, a row (P,) for each epoch, put together when it is asked for."""

    path: Path
    epochs: list[list[Any]]

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, index: Any) -> Any:
        import torch

        row = torch.cat([part.detach().reshape(-1) for part in self.epochs[index]])
        if row.dtype == torch.bfloat16:  # which numpy lacks; float32 holds the same numbers
            row = row.float()
        if not bool(row.isfinite().all()):
            raise UserError(f"{self.path} holds an expert whose parameters are not finite; leave the file out")
        return row.numpy()


def read_experts(path: Path, layout: Layout, network: str) -> list[_Rows]:
    """The experts in a file, their parameters checked against the layout of the network; no number is read yet.

    UserError where they are not those of the network, or the file is none of experts.
    """

    def none() -> UserError:
        return UserError(
            f"{path} holds no list of experts, each a list of epochs, each a list of tensors; name a replay_buffer_*.pt"
        )

    experts, left = [], path.stat().st_size
    for trajectory in tensors.every(tensors.load(path), (list, tuple), none):
        epochs = []
        for epoch in tensors.every(trajectory, (list, tuple), none):
            parameters = tensors.every(epoch, object, none)
            _check_shapes(path, parameters, layout, network)
            left -= sum(part.numel() * part.element_size() for part in parameters)
            if left < 0:
                raise UserError(f"{path} is damaged: its experts claim more numbers than it has; get it again")
            epochs.append(parameters)
        experts.append(_Rows(path, epochs))
        if len(epochs) < 2:
            raise UserError(f"{path} holds an expert without an epoch of training; leave the file out")
    return experts


def _check_shapes(path: Path, parameters: list[Any], layout: Layout, network: str) -> None:
    """UserError unless these are floating-point tensors of the shapes of the network's parameters."""
    for number, (part, wanted) in enumerate(itertools.zip_longest(parameters, layout)):
        name, shape = wanted or ("nothing", None)
        is_there = None if part is None else list(tensors.tensor(path, part, "parameters", range(10)).shape)
        if is_there == shape:
            if part.is_floating_point() and part.dtype == parameters[0].dtype:
                continue
            raise UserError(
                f"{path} holds parameters of type {part.dtype}; experts have floating-point ones; leave the file out"
            )
        raise UserError(
            f"{path}: parameter {number} is {is_there or 'missing'} there, and {shape or 'missing'} ({name}) in "
            f"{network}; say which network they are of{_hint(parameters)}"
        )


def _hint(parameters: list[Any]) -> str:
    """The settings of a ConvNet that has such parameters, if it is one: blocks of a convolution and a norm."""
    shapes = [tuple(getattr(part, "shape", ())) for part in parameters[:MOST_PARAMETERS]]
    blocks, last = shapes[:-2], shapes[-2:]
    depth, width = len(blocks) // 4, (blocks or [()])[0][:1]
    fits = len(blocks) % 4 == 0 and depth and width and last and len(last[0]) == 2
    if not fits or any(len(shape) != 4 or shape[:1] != width for shape in blocks[::4]):
        return ", as --set network.arch=vgg11"
    return f": it looks like --set network.arch=convnet --set network.depth={depth} --set network.width={width[0]}"


def grouped(abouts: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[int]]]:
    """The names of files, with the experts of each: as they were imported, or ten together.

    Ten together as well where files of one name were imported from several folders.
    """
    origins = [str(about.get("imported", {}).get("file")) for about in abouts]
    as_imported = [name for name, _ in itertools.groupby(origins)]
    if all(NAME.fullmatch(name) for name in origins) and len(set(as_imported)) == len(as_imported):
        for name, indices in itertools.groupby(range(len(origins)), key=lambda i: origins[i]):
            yield name, list(indices)
        return
    for number, begin in enumerate(range(0, len(origins), EACH)):
        yield f"replay_buffer_{number}.pt", list(range(begin, min(begin + EACH, len(origins))))


def write_experts(path: Path, experts: Experts, indices: Sequence[int]) -> None:
    """Write some experts into a file. Their rows are mapped from their own files, not held."""
    tensors.save(path, [_epochs(experts, index) for index in indices])


def _epochs(experts: Experts, index: int) -> list[list[Any]]:
    """An expert as the released codes have it; every row is compared with its digest first."""
    import torch

    layout = experts.headers[index].about["layout"]
    rows = torch.from_numpy(experts.mapped(index))
    sizes = [torch.Size(shape).numel() for _, shape in layout]
    return [
        [part.view(shape) for part, (_, shape) in zip(row.split(sizes), layout, strict=True)] for row in rows.unbind()
    ]
