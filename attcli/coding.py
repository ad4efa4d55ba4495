"""From learned numbers to images and back, and to the bytes of a file: a parameterisation and a storage together.

The currency is bytes. `ipc` is a budget: the bytes of so many float32 images per class. As many units of learned
numbers as fit into it are kept, but never fewer than ipc, and the images per class follow. What the set has once,
whatever its size (masks, scales that all units share, the student's learning rate), and labels come on top; all of it
is counted in the bytes that are reported. Nothing here imports torch before it needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attcli import parameterisations, registry, storage
from attcli.options import Section
from attcli.parameterisations import Coded, Parameterisation, Space
from attcli.storage import Storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from attcli.storage import Scales

Choices = dict[str, dict[str, object]]
"""For `parameterisation` and `storage`, and for `labels` if they are rounded: a choice's `name` and its options."""

AS_THEY_ARE = "float32"
"""The storage of learned labels that does nothing to them."""

PLAIN: Choices = {"parameterisation": {"name": "pixels"}, "storage": {"name": "float32"}}
"""Pixels in float32: what files hold that do not say."""

FLOAT32_BYTES = 4

ROOM, LEAST_ROOM = 1 / 8, 0.5
"""How far the grid of learned labels goes beyond the lowest and the highest: a share of their range, or so much."""


@dataclass(frozen=True)
class Coding:
    """How a set is learned (`parameterisation`) and kept (`storage`).

    label_storage: how learned labels are kept; None where they are kept as they are.
    """

    parameterisation: Parameterisation
    storage: Storage
    label_storage: Storage | None
    space: Space

    def images_per_class(self, ipc: int) -> int:
        """How many images per class the bytes of `ipc` float32 images pay for."""
        shapes = self.parameterisation.unit(self.space.channels, self.space.side)
        bits = sum(self.storage.bits(shape) for shape in shapes.values())
        budget = 8 * FLOAT32_BYTES * ipc * self.space.channels * self.space.side**2
        return max(ipc, budget // bits) * self.parameterisation.images_per_unit

    def counted_bytes(self, ipc: int, classes: int, soft_labels: bool) -> int:
        """The bytes of a set for `ipc`, before any compression: as a file will hold it, without its normaliser."""
        per_class = self.images_per_class(ipc)
        units = classes * per_class // self.parameterisation.images_per_unit
        shapes = self.parameterisation.unit(self.space.channels, self.space.side).values()
        numbers = sum(self.storage.size((units, *shape)) for shape in shapes)
        labels = (classes * per_class, classes)
        as_they_are = FLOAT32_BYTES * classes**2 * per_class
        of_labels = self.label_storage.size(labels) if self.label_storage else as_they_are
        constants = classes * self.parameterisation.constant_bytes(self.space.side)
        return numbers + constants + (of_labels if soft_labels else 0) + FLOAT32_BYTES

    def encode(self, images: Tensor, labels: Tensor) -> Coded:
        """The numbers that stand for network inputs (n, C, H, W) with classes (n,)."""
        from attcli.data.normalise import whole_float32

        with whole_float32():
            return self.parameterisation.encode(images, labels, self.space)

    def fit(self, learned: Mapping[str, Tensor]) -> dict[str, Scales]:
        """The scales of each learned tensor that has some."""
        limits = self.parameterisation.limits
        scales = {name: self.storage.fit(x, limits.get(name)) for name, x in learned.items()}
        return {name: parts for name, parts in scales.items() if parts}

    def fit_labels(self, logits: Tensor) -> Scales:
        """The scales of learned labels, which leave room on both sides: logits grow, and may all be 0 at first."""
        if self.label_storage is None:
            return {}
        low, high = float(logits.min()), float(logits.max())
        room = max(ROOM * (high - low), LEAST_ROOM)
        return self.label_storage.fit(logits, (low - room, high + room))

    def labels(self, logits: Tensor, scales: Scales) -> Tensor:
        """Learned labels (n, K) as the file would hold them."""
        return self.label_storage.rounded(logits, scales) if self.label_storage else logits

    def images(self, coded: Coded, scales: Mapping[str, Scales]) -> Tensor:
        """The images (n, C, H, W) that networks see: decoded from the numbers as the file would hold them."""
        from attcli.data.normalise import whole_float32

        with whole_float32():
            return self.parameterisation.decode(self._rounded(coded, scales), self.space)

    def pull_back(self, coded: Coded, scales: Mapping[str, Scales], gradient: Tensor) -> dict[str, Tensor]:
        """The gradients in the learned tensors of a loss with this gradient (n, C, H, W) in the images.

        The derivative is taken at the rounded numbers. It passes through the rounding itself unchanged, but is zero for
        a number out of the range that can be kept, unless a step against it leads back.
        """
        from attcli.data.normalise import whole_float32

        rounded = self._rounded(coded, scales)
        with whole_float32():
            gradients = parameterisations.pull_back(self.parameterisation, rounded, self.space, gradient)
        return {
            name: _passing(g, self.storage.beyond(coded.learned[name], scales.get(name, {})))
            for name, g in gradients.items()
        }

    def pull_back_labels(self, logits: Tensor, scales: Scales, gradient: Tensor) -> Tensor:
        """The gradient (n, K) in learned labels, of a loss with this gradient in the labels as they are kept."""
        return _passing(gradient, self.label_storage.beyond(logits, scales) if self.label_storage else None)

    def _rounded(self, coded: Coded, scales: Mapping[str, Scales]) -> Coded:
        rounded = {name: self.storage.rounded(x, scales.get(name, {})) for name, x in coded.learned.items()}
        return Coded(rounded, coded.constants)

    def pack(self, learned: Mapping[str, Tensor], scales: Mapping[str, Scales]) -> dict[str, NDArray[np.generic]]:
        """The arrays of a file for these tensors, named `tensor/part`."""
        packed = {
            name: self.storage.pack(x.detach().cpu(), on_cpu(scales.get(name, {}))) for name, x in learned.items()
        }
        return {f"{name}/{part}": array for name, parts in packed.items() for part, array in parts.items()}

    def unpack(self, arrays: Mapping[str, NDArray[np.generic]], images: int) -> dict[str, Tensor]:
        """The tensors of a set of so many images again, from the arrays that `pack` made.

        ValueError or KeyError where the arrays do not fit.
        """
        parts, shapes = self._parts(arrays, images)
        return {name: self.storage.unpack(parts[name], shape) for name, shape in shapes.items()}

    def scales_of(self, arrays: Mapping[str, NDArray[np.generic]], images: int) -> dict[str, Scales]:
        """The scales that these arrays were packed with, as `fit` names them; ValueError or KeyError as `unpack`."""
        parts, shapes = self._parts(arrays, images)
        scales = {name: self.storage.scales_of(parts[name], shape) for name, shape in shapes.items()}
        return {name: of_tensor for name, of_tensor in scales.items() if of_tensor}

    def _parts(
        self, arrays: Mapping[str, NDArray[np.generic]], images: int
    ) -> tuple[dict[str, dict[str, NDArray[np.generic]]], dict[str, tuple[int, ...]]]:
        """The arrays of each tensor by part, and its shape."""
        parts: dict[str, dict[str, NDArray[np.generic]]] = {}
        for key, array in arrays.items():
            name, _, part = key.rpartition("/")
            parts.setdefault(name, {})[part] = array
        shapes = self.parameterisation.unit(self.space.channels, self.space.side)
        if parts.keys() != shapes.keys() or images % self.parameterisation.images_per_unit:
            raise ValueError("its learned numbers are not those of its parameterisation")
        units = images // self.parameterisation.images_per_unit
        return parts, {name: (units, *shape) for name, shape in shapes.items()}


def _passing(gradient: Tensor, beyond: Tensor | None) -> Tensor:
    """The gradient where it leads numbers back into range or they are within it, and zero elsewhere."""
    return gradient if beyond is None else gradient * (beyond * gradient >= 0)


def on_cpu(scales: Scales) -> Scales:
    """The same scales on the CPU."""
    return {name: x.cpu() for name, x in scales.items()}


def choices(distill: Any) -> Choices:
    """How a set is learned and kept by the settings of `distill`, as its file says it."""

    def choice(kind: str, name: str) -> dict[str, object]:
        return {"name": name, **distill.model_dump(mode="json", include=set(registry.options(kind, name)))}

    made = {
        "parameterisation": choice("parameterisation", distill.parameterisation),
        "storage": choice("storage", distill.storage),
    }
    if distill.labels == "learned" and distill.label_storage != AS_THEY_ARE:
        made["labels"] = choice("storage", distill.label_storage)
    return made


def load(chosen: Mapping[str, Mapping[str, object]], space: Space) -> Coding:
    """The coding of these choices, for images of this space; choices that are not said are the plain ones.

    Options that are not said have their defaults. UserError for a name that nothing has, ValueError for options that a
    choice does not take.
    """
    whole = {**PLAIN, **chosen}
    image, number, label = whole["parameterisation"], whole["storage"], whole.get("labels")
    return Coding(
        parameterisations.load(str(image["name"]), **_options("parameterisation", image)),
        storage.load(str(number["name"]), **_options("storage", number)),
        storage.load(str(label["name"]), **_options("storage", label)) if label else None,
        space,
    )


def _options(kind: str, choice: Mapping[str, object]) -> dict[str, object]:
    """A choice's options, as it declares them. ValueError for those that it does not take."""
    module = registry.module(kind, str(choice["name"]))
    own = {key: value for key, value in choice.items() if key != "name"}
    declared: type[Section] = getattr(module, "Options", Section)
    try:
        return dict(declared.model_validate(own).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"its {kind} {choice['name']} has an impossible option {where}: {first['msg']}") from None


def planned(distill: Any, channels: int, side: int) -> Coding:
    """The coding by the settings of `distill`, to count by: it has no normaliser."""
    return load(choices(distill), Space(channels, side))


def images_per_class(distill: Any, channels: int, side: int) -> int:
    """How many images per class the settings of `distill` pay for. UserError where images of this size don't fit."""
    return planned(distill, channels, side).images_per_class(distill.ipc)


def size(per_class: float, channels: int, side: int, images_per_class: int) -> dict[str, Any]:
    """What a set costs, as it is reported: images and bytes per class, and the float32 images of as many bytes."""
    ipc = per_class / (FLOAT32_BYTES * channels * side**2)
    return {"images_per_class": images_per_class, "bytes_per_class": round(per_class, 1), "float32_ipc": round(ipc, 4)}


def in_words(size: dict[str, Any]) -> str:
    """A set's size in a line, as `16 images per class in 12,289 bytes (1.00 float32 images)`."""
    images = f"{size['images_per_class']} image{'' if size['images_per_class'] == 1 else 's'} per class"
    return f"{images} in {size['bytes_per_class']:,.0f} bytes ({size['float32_ipc']:.2f} float32 images)"
