"""From learned numbers to images and back, and to the bytes of a file: a parameterisation and a storage together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attcli import parameterisations, storage
from attcli.parameterisations import Coded, Parameterisation
from attcli.storage import Storage


@dataclass(frozen=True)
class Coding:
    """How a set is learned (`parameterisation`) and kept (`storage`)."""

    parameterisation: Parameterisation
    storage: Storage

    def images(self, coded: Coded) -> Tensor:
        """The images (n, C, H, W) that networks see: decoded from the numbers as the file would hold them."""
        return self.parameterisation.decode(self._rounded(coded))

    def pull_back(self, coded: Coded, gradient: Tensor) -> dict[str, Tensor]:
        """The gradients in the learned tensors of a loss with this gradient (n, C, H, W) in the images.

        The derivative is taken at the rounded numbers, and passes through the rounding itself unchanged.
        """
        return parameterisations.pull_back(self.parameterisation, self._rounded(coded), gradient)

    def _rounded(self, coded: Coded) -> Coded:
        return Coded({name: self.storage.rounded(x) for name, x in coded.learned.items()}, coded.constants)

    def pack(self, learned: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
        """The arrays of a file for these tensors, named `tensor/part`."""
        packed = {name: self.storage.pack(value.detach().cpu()) for name, value in learned.items()}
        return {f"{name}/{part}": array for name, parts in packed.items() for part, array in parts.items()}

    def unpack(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
        """The tensors again, from the arrays that `pack` made."""
        parts: dict[str, dict[str, NDArray[np.generic]]] = {}
        for key, array in arrays.items():
            name, _, part = key.rpartition("/")
            parts.setdefault(name, {})[part] = array
        return {name: self.storage.unpack(packed) for name, packed in parts.items()}


def load(parameterisation: Mapping[str, object], stored: Mapping[str, object]) -> Coding:
    """The coding of two choices, each a mapping of its `name` and its options."""

    def options(choice: Mapping[str, object]) -> dict[str, object]:
        return {key: value for key, value in choice.items() if key != "name"}

    return Coding(
        parameterisations.load(str(parameterisation["name"]), **options(parameterisation)),
        storage.load(str(stored["name"]), **options(stored)),
    )
