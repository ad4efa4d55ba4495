"""Image files of every kind become the bytes that they show."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from attcli import runtime
from attcli.data import readers
from attcli.data.decoding import DecodedFiles
from attcli.data.image import UnreadableError, decode, look_at_each
from attcli.data.sources import hf
from tests.data.pictures import picture


def pixels(path: Path, channels: int = 3, side: int = 4, fit: str = "squeeze") -> np.ndarray:
    return decode(path, channels, side, fit)[0]


def halves(mode: str, left: object, right: object, size: int = 4) -> Image.Image:
    """An image whose left half has one colour, and whose right half another."""
    image = Image.new(mode, (size, size), left)
    image.paste(right, (size // 2, 0, size, size))
    return image


RED, WHITE, BLUE = (255, 0, 0), (255, 255, 255), (0, 0, 255)


def sides(array: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The colours at the left and the right."""
    return tuple(array[:, 1, 0].tolist()), tuple(array[:, 1, -1].tolist())


def test_colour_grey_and_sizes(tmp_path: Path) -> None:
    image = Image.open(picture(tmp_path / "a.png", size=(4, 4)))
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(image).transpose(2, 0, 1))
    assert np.array_equal(pixels(tmp_path / "a.png", channels=1)[0], np.asarray(image.convert("L")))
    assert pixels(picture(tmp_path / "g.png", mode="L", size=(7, 5)), side=6).shape == (3, 6, 6)


def test_transparent_becomes_white(tmp_path: Path) -> None:
    halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)).save(tmp_path / "rgba.png")
    assert sides(pixels(tmp_path / "rgba.png")) == (RED, WHITE)
    halves("LA", (10, 255), (10, 0)).save(tmp_path / "la.png")
    assert sides(pixels(tmp_path / "la.png", channels=1)) == ((10,), (255,))
    palette = halves("P", 0, 1)
    palette.putpalette([*RED, *BLUE])
    palette.save(tmp_path / "p.png")
    assert sides(pixels(tmp_path / "p.png")) == (RED, BLUE)
    palette.save(tmp_path / "pt.png", transparency=1)
    assert sides(pixels(tmp_path / "pt.png")) == (RED, WHITE)


def test_cmyk_one_bit_and_sixteen_bits(tmp_path: Path) -> None:
    halves("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)).save(tmp_path / "cmyk.tif")
    assert sides(pixels(tmp_path / "cmyk.tif")) == (RED, (0, 0, 0))
    halves("1", 0, 1).save(tmp_path / "one.png")
    assert sides(pixels(tmp_path / "one.png", channels=1)) == ((0,), (255,))
    wide = np.array([[0, 257 * 100, 257 * 100 + 128, 65535]] * 4, np.uint16)
    for name in ("wide.png", "wide.tif"):
        Image.fromarray(wide).save(tmp_path / name)
        assert pixels(tmp_path / name, channels=1)[0, 0].tolist() == [0, 100, 100, 255]
        assert pixels(tmp_path / name, channels=3)[1, 0].tolist() == [0, 100, 100, 255]
    (tmp_path / "wide.pgm").write_bytes(b"P5 4 4 65535\n" + wide.astype(">u2").tobytes())
    assert pixels(tmp_path / "wide.pgm", channels=1)[0, 0].tolist() == [0, 100, 100, 255]


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves("RGB", RED, BLUE, 32).save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    left, right = sides(pixels(tmp_path / "turned.jpg", side=32))
    assert np.allclose(left, BLUE, atol=10)
    assert np.allclose(right, RED, atol=10)


def test_the_first_frame_of_several(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.png")
    decoded, animated = decode(tmp_path / "a.gif", 3, 4, "squeeze")
    assert animated
    assert sides(decoded) == (RED, RED)
    assert not decode(tmp_path / "b.png", 3, 4, "squeeze")[1]


@pytest.mark.parametrize(
    ("fit", "corner", "middle"), [("squeeze", RED, WHITE), ("crop", WHITE, WHITE), ("pad", (0, 0, 0), WHITE)]
)
def test_images_that_are_not_square(tmp_path: Path, fit: str, corner: object, middle: object) -> None:
    image = Image.new("RGB", (24, 8), WHITE)
    image.paste(RED, (0, 0, 8, 8))
    image.paste(RED, (16, 0, 24, 8))
    image.save(tmp_path / "wide.png")
    decoded = pixels(tmp_path / "wide.png", side=8, fit=fit)
    assert tuple(decoded[:, 0, 0].tolist()) == corner
    assert tuple(decoded[:, 4, 4].tolist()) == middle


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_a_turned_tiff_that_is_not_square_is_read_as_it_was_seen(mode: str, turn: int, tmp_path: Path) -> None:
    upright = Image.open(picture(tmp_path / "upright.tif", size=(9, 6), mode=mode))
    stored = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}[turn]
    turned = upright.transpose(Image.Transpose[stored])
    turned.save(tmp_path / "turned.tif", tiffinfo={274: turn})
    assert np.array_equal(pixels(tmp_path / "turned.tif", side=16), pixels(tmp_path / "upright.tif", side=16))


def bomb(path: Path, side: int) -> Path:
    """A PNG of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    whole = picture(tmp_path / "whole.jpg", size=(64, 64)).read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes(whole[:-400])
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tif")
    for name, why in (
        ("empty.jpg", "it is empty"),
        ("text.jpg", "it is no image"),
        ("cut.jpg", "truncated"),
        ("float.tif", "32 bits"),
        ("missing.jpg", "No such file"),
        (bomb(tmp_path / "bomb.png", 50_000).name, "too many pixels|too many"),
        (bomb(tmp_path / "large.png", 11_000).name, "11000 x 11000 pixels"),
    ):
        with pytest.raises(UnreadableError, match=why):
            decode(tmp_path / name, 3, 8, "squeeze")


def test_files_are_decoded_alike_by_any_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [picture(tmp_path / f"{i}.png", seed=i, size=(9, 7)).name for i in range(12)]
    (tmp_path / paths[5]).write_bytes(b"")
    files = DecodedFiles(lambda i: tmp_path / paths[i], lambda i: paths[i], np.arange(12), 3, 8, "squeeze")
    index = np.array([3, 5, 11, 0])
    one = files.decode(index)
    monkeypatch.setattr(readers, "WORTHWHILE", 1)
    monkeypatch.setattr(readers, "PIECE", 1)
    monkeypatch.setattr(runtime, "cores", lambda: 3)
    three = files.decode(index)
    readers.end()
    assert np.array_equal(one.images, three.images)
    assert one.problems == three.problems == {1: "it is empty"}
    assert not one.images[1].any()
    assert np.array_equal(files.read(np.array([3])), one.images[:1])
    with pytest.raises(UnreadableError, match=r"5.png: it is empty"):
        files.read(index)


def test_a_file_that_would_make_another_program_run_is_no_image(tmp_path: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\nshowpage\n"
    (tmp_path / "a.png").write_bytes(program)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.format == "EPS"  # Pillow itself would call Ghostscript with it
    for file in (tmp_path / "a.png", program):
        with pytest.raises(UnreadableError, match="it is no image"):
            decode(file, 3, 8, "squeeze")
    assert look_at_each([program])[0][1] is None


def test_rows_of_a_hub_dataset_without_an_image_are_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.png").write_bytes(b"data")
    rows = [None, {}, {"bytes": b"x", "path": None}, {"bytes": None, "path": str(tmp_path / "a.png")}]
    rows += [{"bytes": None, "path": path} for path in (None, str(tmp_path / "pipe.png"), "/dev/zero", "no/such")]
    split = [{"image": row} for row in rows]
    assert [hf._file(split, "image", i) for i in range(4)] == [b"", b"", b"x", str(tmp_path / "a.png")]
    assert [hf._file(split, "image", i) for i in range(4, 8)] == [b""] * 4


def test_sizes_are_changed_by_bilinear_interpolation(tmp_path: Path) -> None:
    image = Image.open(picture(tmp_path / "a.png", size=(16, 8)))
    method = Image.Resampling.BILINEAR
    wanted = {
        "squeeze": image.resize((4, 4), method),
        "crop": ImageOps.fit(image, (4, 4), method),
        "pad": ImageOps.pad(image, (4, 4), method, color=0),
    }
    for fit, resized in wanted.items():
        assert np.array_equal(
            pixels(tmp_path / "a.png", fit=fit), np.asarray(resized.convert("RGB")).transpose(2, 0, 1)
        )
