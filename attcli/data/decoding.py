"""Image files as bytes of one size: whatever their mode, orientation or depth. Free of torch."""

import io
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from attcli.data.contents import shares, workers
from attcli.data.sources import Decoded

WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's names for grey images of 16 bits."""

MOST_PIXELS = 100_000_000
"""Images of more pixels are not decoded: they would take gigabytes."""


class UnreadableError(Exception):
    """Why an image cannot be read, in a few words."""


ImageFile = str | Path | bytes
"""An image's path, or its bytes."""


def decode(file: ImageFile, channels: int, resolution: int, fit: str) -> tuple[NDArray[np.uint8], bool]:
    """An image u8 (C, side, side) from its path or bytes, and whether it has several frames. UnreadableError.

    The orientation that a camera noted is applied; what is transparent becomes white; 16 bits become 8; CMYK and
    palettes become colours. `fit` is squeeze (both sides to the side), crop (the middle) or pad (with black).
    """
    try:
        if not (data := file if isinstance(file, bytes) else _bytes(file)):
            raise UnreadableError("it is empty")
        # From memory: Pillow reads files in many small pieces, and maps some, of which it gets turned TIFFs wrong.
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UnreadableError(f"it has {image.width} x {image.height} pixels, which is too many")
            animated = bool(getattr(image, "is_animated", False))
            image.seek(0)
            ImageOps.exif_transpose(image, in_place=True)
            pixels = np.asarray(_fitted(_plain(image, channels), resolution, fit))
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("it is no image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError("it has too many pixels") from None
    except PermissionError:
        raise UnreadableError("it may not be read") from None
    except Exception as error:  # Pillow raises anything on damaged files
        raise UnreadableError(" ".join(str(error).split())[:100] or type(error).__name__) from None
    return (pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)), animated


def _bytes(path: str | Path) -> bytes:
    """All bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """An image in grey or colour, of 8 bits, with nothing transparent."""
    if image.mode in WIDE:
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UnreadableError("its pixels have 32 bits; save it with 8 or 16")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, side: int, fit: str) -> Image.Image:
    size, method = (side, side), Image.Resampling.BILINEAR
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, method)
    if fit == "pad":
        return ImageOps.pad(image, size, method, color=0)
    return image.resize(size, method)


class DecodedFiles:
    """A split whose images are decoded when they are read, side by side.

    `file(i)` is the path of image i, or its bytes; `named(i)` is what messages call it; labels are classes i64 (N,).
    """

    def __init__(
        self,
        file: Callable[[int], ImageFile],
        named: Callable[[int], str],
        labels: NDArray[np.int64],
        channels: int,
        resolution: int,
        fit: str,
    ) -> None:
        self._file, self._named, self._labels = file, named, labels
        self._channels, self._resolution, self._fit = channels, resolution, fit

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each image (N,)."""
        return self._labels

    def name(self, index: int) -> str:
        """What messages call an image: its path below the folder."""
        return self._named(index)

    def decode(self, index: NDArray[np.int64]) -> Decoded:
        """The images with these indices (B,), decoded side by side; those that cannot be read are black."""
        images = np.zeros((len(index), self._channels, self._resolution, self._resolution), np.uint8)
        problems: dict[int, str] = {}

        def some(places: range) -> int:
            """Decode the images at these places; how many have more than one frame."""
            several = 0
            for place in places:
                try:
                    images[place], more = decode(
                        self._file(int(index[place])), self._channels, self._resolution, self._fit
                    )
                    several += more
                except UnreadableError as error:
                    problems[place] = str(error)
            return several

        with warnings.catch_warnings():  # of Pillow, on odd metadata
            warnings.simplefilter("ignore")
            with ThreadPoolExecutor(workers()) as pool:
                animated = sum(pool.map(some, shares(len(index))))
        return Decoded(images, dict(sorted(problems.items())), animated)

    def read(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images u8 (B, C, H, W) with these indices (B,). UnreadableError for the first that cannot be read."""
        decoded = self.decode(index)
        for place, why in decoded.problems.items():
            raise UnreadableError(f"{self.name(int(index[place]))}: {why}")
        return decoded.images
