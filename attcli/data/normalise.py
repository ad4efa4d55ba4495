"""From pixel values in [0, 1] to what networks see, and back: standardisation or ZCA whitening.

Both are fitted on training images only, unless standardisation takes given figures. ZCA (eps 0.1, no standardisation
before it), with Sigma = U diag(s) U^T the covariance of the flattened images: x' = (x - mean) T with T = U diag((s +
eps)^-1/2) U^T; the inverse is U diag((s + eps)^1/2) U^T. U and s are kept rather than the two matrices: half the
size, and one source for both.

Contrast normalisation (RaT-BPTT, ICLR 2024) takes from every image its own mean m, scales it to length 1, and whitens
what is left: x' = ((x - m) / |x - m| - mean) T, where eps is a part of the mean eigenvalue. An image's own mean and
length can't be had back; pictures are drawn with those that training images have on average.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 10_000
"""Images that are taken at a time; fewer of large ones."""


@dataclass(frozen=True)
class Normaliser:
    """`kind` standardise: mean, std f32 (C,). `kind` zca: mean f32 (D,), vectors f32 (D, D), values f64 (D,), eps.

    `kind` contrast: as zca, and std f32 (2,) is the mean of the training images' own means, and that of their lengths.
    """

    kind: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32] | None = None
    vectors: NDArray[np.float32] | None = None
    values: NDArray[np.float64] | None = None
    eps: float = 0.0

    def digest(self) -> str:
        """A SHA-256 of all its numbers, in hexadecimal."""
        parts = [part for part in (self.mean, self.std, self.vectors, self.values) if part is not None]
        return sha256(b"".join(part.tobytes() for part in parts) + f"{self.kind}{self.eps}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to network inputs."""
        if self.kind == "standardise":
            mean, std = self._standard(images)
            return (images - mean) / std
        if self.kind == "contrast":
            images = _contrast(images)[0]
        return _times(images - self._mean(images), self._matrix(-0.5, images.dtype, images.device))

    def inverse(self, inputs: Tensor) -> Tensor:
        """Network inputs (N, C, H, W) back to images; values may lie outside [0, 1]."""
        if self.kind == "standardise":
            mean, std = self._standard(inputs)
            return inputs * std + mean
        images = _times(inputs, self._matrix(0.5, inputs.dtype, inputs.device)) + self._mean(inputs)
        if self.kind == "contrast":
            assert self.std is not None
            return images * float(self.std[1]) + float(self.std[0])
        return images

    def _mean(self, like: Tensor) -> Tensor:
        return self._kept("mean", like).view(1, *like.shape[1:])

    def _standard(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return self._kept("mean", like).view(1, -1, 1, 1), self._kept("std", like).view(1, -1, 1, 1)

    def _kept(self, name: str, like: Tensor) -> Tensor:
        """Mean or deviation on the tensor's device and in its type: sent there once, as every batch asks for it."""
        key = (name, like.dtype, like.device)
        if key not in self._vectors:
            self._vectors[key] = torch.from_numpy(getattr(self, name)).to(like)
        return self._vectors[key]

    @cached_property
    def _vectors(self) -> dict[tuple[str, torch.dtype, torch.device], Tensor]:
        """Mean and deviation where they were asked for so far."""
        return {}

    @cached_property
    def _matrices(self) -> dict[tuple[float, torch.dtype, torch.device], Tensor]:
        """The whitening (power -1/2) and colouring (1/2) matrices made so far: they are large, and asked for often."""
        return {}

    def _matrix(self, power: float, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (power, dtype, device)
        if key not in self._matrices:
            assert self.vectors is not None
            assert self.values is not None
            vectors = torch.from_numpy(self.vectors).double()
            matrix = (vectors * torch.from_numpy(self.values + self.eps).pow(power)) @ vectors.T
            self._matrices[key] = matrix.to(device, dtype)
        return self._matrices[key]


def _contrast(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Images (n, C, H, W) less their own means and at length 1; these means (n,) and lengths (n,)."""
    mean = images.flatten(1).mean(dim=1)
    centred = images - mean.view(-1, 1, 1, 1)
    length = centred.flatten(1).norm(dim=1)
    return centred / length.clamp(min=NO_CONTRAST).view(-1, 1, 1, 1), mean, length


NO_CONTRAST = 1e-3
"""The least length that an image is divided by, less than a single byte makes: one of a single colour stays 0."""


@contextmanager
def whole_float32() -> Iterator[None]:
    """Products of matrices without TF32, whatever networks compute in: images are the same wherever they are made."""
    matmul = torch.backends.cuda.matmul
    allowed, matmul.allow_tf32 = matmul.allow_tf32, False
    try:
        yield
    finally:
        matmul.allow_tf32 = allowed


def _times(images: Tensor, matrix: Tensor) -> Tensor:
    with whole_float32():
        return (images.flatten(1) @ matrix).view_as(images)


def given(mean: tuple[float, ...], std: tuple[float, ...]) -> Normaliser:
    """Standardisation with a given mean and deviation of each channel, in units of [0, 1]."""
    return Normaliser("standardise", np.asarray(mean, np.float32), std=np.asarray(std, np.float32))


Chunks = Callable[[], Iterable[Tensor]]
"""Images f32 (n, C, H, W) in [0, 1], some at a time; each call begins again with the first."""


def chunk_size(values: int) -> int:
    """How many images of so many values each are taken at a time: about 120 MB of them in float32."""
    return max(1, min(CHUNK, CHUNK * 3072 // values))


def fit(kind: str, images: Tensor, eps: float) -> Normaliser:
    """Fit on training images f32 (N, C, H, W) in [0, 1], all of them in memory."""
    return fit_chunks(kind, lambda: images.split(chunk_size(images[0].numel())), eps)


def fit_chunks(kind: str, chunks: Chunks, eps: float) -> Normaliser:
    """Fit on training images in two passes over them; all statistics are sums in float64 on the CPU.

    Memory is that of a few chunks and, for ZCA, of three matrices of D x D float64, D the values of an image.
    """
    if kind == "contrast":
        return _contrast_of(chunks, eps)
    return _standard_of(chunks) if kind == "standardise" else _whitening_of(chunks, eps)


def _contrast_of(chunks: Chunks, share: float) -> Normaliser:
    """Contrast normalisation, with `share` of the mean eigenvalue as eps."""
    total, count = torch.zeros(2, dtype=torch.float64), 0
    for chunk in chunks():
        _, mean, length = _contrast(chunk.double())
        total += torch.stack([mean.sum(), length.sum()])
        count += len(chunk)
    white = _whitening_of(lambda: (_contrast(chunk)[0] for chunk in chunks()), 0.0)
    assert white.values is not None
    eps = share * float(white.values.mean())
    return replace(white, kind="contrast", eps=eps, std=(total / count).float().numpy())


def fit_bytes(pieces: Iterable[Tensor], value_scale: float) -> Normaliser:
    """Standardisation fitted on training images u8 (n, C, H, W), some at a time, in one pass.

    How often each byte occurs in each channel says all that mean and deviation need, in float64.
    """
    counts: Tensor | int = 0
    for piece in pieces:
        channels = piece.transpose(0, 1).flatten(1)
        counts = counts + torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    counts = torch.as_tensor(counts)
    values = (torch.arange(256).float() * value_scale).double()
    number = counts.sum(dim=1)
    mean = (counts * values).sum(dim=1) / number
    squares = (counts * (values - mean.unsqueeze(1)).square()).sum(dim=1)
    std = (squares / (number - 1)).sqrt()
    return Normaliser("standardise", mean.float().numpy(), std=std.float().numpy())


def _standard_of(chunks: Chunks) -> Normaliser:
    total: Tensor | float = 0.0
    count = 0
    for chunk in chunks():
        total = total + chunk.sum(dim=(0, 2, 3), dtype=torch.float64)
        count += chunk.numel() // chunk.shape[1]
    mean = torch.as_tensor(total) / count
    squares: Tensor | float = 0.0
    for chunk in chunks():
        squares = squares + chunk.double().sub_(mean.view(1, -1, 1, 1)).square_().sum(dim=(0, 2, 3))
    std = (torch.as_tensor(squares) / (count - 1)).sqrt()
    return Normaliser("standardise", mean.float().numpy(), std=std.float().numpy())


def _whitening_of(chunks: Chunks, eps: float) -> Normaliser:
    total: Tensor | float = 0.0
    count = 0
    for chunk in chunks():
        total = total + chunk.flatten(1).double().sum(dim=0)
        count += len(chunk)
    centre = torch.as_tensor(total) / count
    gram = torch.zeros((len(centre),) * 2, dtype=torch.float64)
    for chunk in chunks():
        centred = chunk.flatten(1).double().sub_(centre)
        gram += centred.T @ centred
        del centred
    eigenvalues, vectors = torch.linalg.eigh(gram.div_(count - 1))
    del gram
    return Normaliser(
        "zca", centre.float().numpy(), vectors=vectors.float().numpy(), values=eigenvalues.clamp(min=0).numpy(), eps=eps
    )
