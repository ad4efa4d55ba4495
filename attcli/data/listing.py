"""The image files of a folder, by class: found, sorted, and refused where the folder is not what it should be.

The order is that of names, never that of the file system. Free of torch.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loguru import logger

from attcli.errors import MissingError, UserError, printable
from attcli.registry import known

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif")
)
"""What the names of image files end in, in any case; `image.FORMATS` are the formats that are decoded."""

Labelled = list[tuple[str, int]]
"""Files, as paths below the root with slashes, each with the number of its class."""


@dataclass(frozen=True)
class Content:
    """A file: bytes, SHA-256; width and height in pixels and whether it is in colour, None where it is no image."""

    size: int
    sha256: str
    pixels: tuple[int, int] | None
    colour: bool | None


@dataclass(frozen=True)
class Listing:
    """The images below `root`: those for training and for testing, and the classes in the order of their numbers.

    `test` is None where the folder has no test images of its own. `stamps` holds the folders that were looked at with
    the time of their last change, `contents` what is known of the files. `remarks` are lines for the log, each
    after its level.
    """

    root: Path
    classes: tuple[str, ...]
    train: Labelled
    test: Labelled | None
    stamps: dict[str, int] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> Labelled:
        """The images of both parts."""
        return self.train + (self.test or [])

    def tell(self) -> None:
        """Log the remarks."""
        for level, remark in self.remarks:
            logger.log(level, "{}", remark)

    def changed(self) -> bool:
        """Whether a folder has changed since it was looked at."""
        return any(_stamp(folder) != stamp for folder, stamp in self.stamps.items())


def _stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


class Folder:
    """A folder that is looked through; it remembers what it saw."""

    def __init__(self, root: Path) -> None:
        """MissingError or UserError where `root` is no folder."""
        try:
            is_there = root.exists()
        except OSError as error:  # such as a name that is too long
            raise UserError(f"{root} is no name of a folder ({error.strerror}); name one with --data-dir") from None
        if not is_there:
            raise MissingError(f"{root} is not there; name the folder of the images with --data-dir")
        if not root.is_dir():
            raise UserError(f"{root} is no folder; name the folder of the images with --data-dir")
        self.root = root.resolve()
        self.stamps: dict[str, int] = {}
        self.ignored: list[str] = []

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What a folder holds, by name, without what is hidden. UserError for links that lead out of the root."""
        self.stamps[str(folder)] = _stamp(str(folder))
        try:
            with os.scandir(folder) as scanned:
                entries = sorted((entry for entry in scanned if not entry.name.startswith(".")), key=lambda e: e.name)
        except PermissionError:
            raise UserError(
                f"{folder} may not be read; give yourself the right to (chmod u+rx), or name another folder"
            ) from None
        for entry in entries:
            if entry.is_symlink():
                self._check_link(entry)
        return entries

    def _check_link(self, entry: os.DirEntry[str]) -> None:
        target = Path(os.path.realpath(entry.path))
        if not target.exists():
            raise UserError(f"{entry.path} is a link that leads nowhere; delete it, or fix it")
        if not target.is_relative_to(self.root):
            raise UserError(
                f"{entry.path} is a link that leads out of {self.root}; put a copy (or a hard link) in its place"
            )

    def folders(self, below: str = "") -> list[str]:
        """The names of the folders in a folder, sorted. UserError for names that are no text."""
        names = [entry.name for entry in self._entries(self.root / below) if entry.is_dir()]
        for name in names:
            try:
                name.encode()
            except UnicodeEncodeError:
                shown = name.encode(errors="surrogateescape")
                raise UserError(f"the folder {shown!r} in {self.root / below} has no UTF-8 name; rename it") from None
            if not printable(name):
                raise UserError(
                    f"the folder {name!r} in {self.root / below} has a line break or a character in its name that does "
                    f"not show itself; rename it"
                )
        return names

    def images(self, below: str) -> list[str]:
        """The image files in a folder and in the folders in it, as sorted paths below the root."""
        return sorted(self._images(below, 0))

    def _images(self, below: str, depth: int) -> Iterator[str]:
        for entry in self._entries(self.root / below):
            path = f"{below}/{entry.name}"
            if entry.is_dir():
                if depth > 8:
                    raise UserError(f"{entry.path} lies more than eight folders deep; put images into fewer folders")
                yield from self._images(path, depth + 1)
            elif entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES:
                yield path
            else:
                self.ignored.append(path)

    def ignored_files(self) -> list[str]:
        """A sentence on the files that were passed over, if there are any."""
        count, first = len(self.ignored), "".join(self.ignored[:1])
        if count > 1:
            return [f"{count} files in {self.root} are no images by their names and are ignored, such as {first}"]
        return [f"{first} in {self.root} is no image by its name and is ignored"] if count else []


def by_class(folder: Folder, below: str, wanted: tuple[str, ...] | None) -> dict[str, list[str]]:
    """The images of each class, a folder each in `below`: of all classes in the order of names, or of those chosen.

    UserError where there are no classes, just one, or none of a name that was chosen.
    """
    place = folder.root / below
    names = folder.folders(below)
    if not names:
        raise UserError(
            f"{place} holds no folders; put the images of each class into a folder of its own, as {place}/cats/1.jpg"
        )
    if wanted is not None:
        for name in wanted:
            known("class in prepare.classes:", name, names, f"{place} has {_some(names)}")
        if len(set(wanted)) < len(wanted):
            raise UserError("prepare.classes names a class twice; name each once")
        names = list(wanted)
    if not names:
        raise UserError("prepare.classes names no class; name at least two, or leave it out for all")
    if len(names) == 1:
        raise UserError(f"{place} has a single class, {names[0]}; at least two are needed, a folder each")
    return {name: folder.images(f"{below}/{name}" if below else name) for name in names}


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def numbered(files: dict[str, list[str]]) -> Labelled:
    """The files of all classes, class by class, each with its class's number."""
    return [(path, number) for number, paths in enumerate(files.values()) for path in paths]
