"""Image files: what they are, and their pixels as bytes of one size, whatever their mode, orientation or depth.

The processes that read images import this module, so it imports little.
"""

import hashlib
import io
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

GREY = ("1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's names for what has no colour."""

WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's names for grey images of 16 bits."""

FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names for what is decoded. It knows more, of which some are programs that another program would run.
`listing.SUFFIXES` are the endings by which such files are found."""

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
        with Image.open(io.BytesIO(data), formats=formats()) as image:
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


@cache
def formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _bytes(path: str | Path) -> bytes:
    """All bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        return file.readall()


def _plain(image: Image.Image, channels: int) -> Image.Image:
    """An image in grey or colour, of 8 bits, with nothing transparent."""
    if image.mode in WIDE or (image.mode == "I" and image.format == "PPM"):  # a PGM of 16 bits
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


def decode_each(
    files: Sequence[ImageFile], channels: int, resolution: int, fit: str
) -> tuple[NDArray[np.uint8], dict[int, str], int]:
    """Images u8 (B, C, side, side); the places of those that cannot be read, and why; how many have several frames.

    Those that cannot be read are black.
    """
    images = np.zeros((len(files), channels, resolution, resolution), np.uint8)
    problems: dict[int, str] = {}
    animated = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on odd metadata
        for place, file in enumerate(files):
            try:
                images[place], more = decode(file, channels, resolution, fit)
                animated += more
            except UnreadableError as error:
                problems[place] = str(error)
    return images, problems, animated


Look = tuple[str, tuple[int, int] | None, bool | None]
"""The SHA-256 of a file, its width and height in pixels, whether it is in colour; "" and None for what has none."""


def look_at_each(files: Sequence[ImageFile]) -> list[Look]:
    """What each file holds, without decoding it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on odd metadata
        return [_look(file) for file in files]


def _look(file: ImageFile) -> Look:
    try:
        data = file if isinstance(file, bytes) else _bytes(file)
    except OSError:
        return "", None, None
    digest = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            return digest, (image.width, image.height), image.mode not in GREY
    except Exception:  # Pillow raises anything on damaged files; decoding says what is wrong
        return digest, None, None
