"""Images of your own, in a folder: `train/CLASS/…` and `test/CLASS/…` (or `val/CLASS/…`), or just `CLASS/…`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from attcli.data import contents, imagefiles
from attcli.data.listing import Folder, Labelled, Listing, by_class, numbered
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import UserError
from attcli.options import listed

INFO = (DatasetInfo("folder", "a folder of images", 0, 3, 0, 0, 0, 0),)

TEST_FOLDERS = ("test", "val")


Classes = Annotated[tuple[str, ...], BeforeValidator(listed)]


class Options(imagefiles.OwnOptions):
    """What is read of a folder, and how."""

    classes: Classes | None = Field(
        None, description="folder: the classes to read, in the order that numbers them; default: all, sorted by name"
    )


def _list(request: Request) -> Listing:
    folder = Folder(request.data_dir)
    options = request.options
    remarks: list[tuple[str, str]] = []
    names = folder.folders()
    if "train" not in names:
        files = by_class(folder, "", options.classes)
        classes, train, test = tuple(files), numbered(files), None
    else:
        files = by_class(folder, "train", options.classes)
        classes, train = tuple(files), numbered(files)
        place = next((name for name in TEST_FOLDERS if name in names), None)
        if set(TEST_FOLDERS) <= set(names):
            remarks.append(("INFO", f"{folder.root} has both test and val; val is not read"))
        test = None if place is None else _tests(folder, place, classes, options.classes, remarks)
    for name, paths in files.items():
        if not paths:
            place = f"{request.data_dir} has no images of the class {name}"
            raise UserError(f"{place}; add some, or name the other classes as prepare.classes")
    remarks += [("INFO", sentence) for sentence in folder.ignored_files()]
    return Listing(folder.root, classes, train, test, folder.stamps, remarks=tuple(remarks))


def _tests(
    folder: Folder,
    place: str,
    classes: tuple[str, ...],
    wanted: tuple[str, ...] | None,
    remarks: list[tuple[str, str]],
) -> Labelled:
    """The test images. What is odd about them is added to the remarks."""
    names = folder.folders(place)
    unknown = [name for name in names if name not in classes]
    if unknown and wanted is None:
        raise UserError(
            f"{folder.root / place} has the class {unknown[0]}, which train/ does not have; give both the same classes"
        )
    tests = {name: folder.images(f"{place}/{name}") if name in names else [] for name in classes}
    if not any(tests.values()):
        raise UserError(f"{folder.root / place} has no images of the classes; add some, or move the folder elsewhere")
    if lacking := [name for name, paths in tests.items() if not paths]:
        remarks.append(("WARNING", f"{folder.root / place} has no images of the class {lacking[0]}"))
    return numbered(tests)


def describe(request: Request) -> DatasetInfo:
    """The facts of the folder. UserError, in one line, for a folder that is not laid out as it should be."""
    listing = imagefiles.listing(request, _list)
    resolution, channels = request.options.resolution, request.options.channels
    if resolution is None or channels is None:
        by_path = contents.contents(listing, request.work_dir)
        resolution = resolution or imagefiles.common_size(by_path)
        channels = channels or ("colour" if any(content.colour for content in by_path.values()) else "grey")
    name = listing.root.name
    return imagefiles.facts(
        listing, request, "folder", f"the images in {name}", 1 if channels == "grey" else 3, resolution
    )


def digest(request: Request) -> str:
    """The SHA-256 of all images, their names and classes."""
    return contents.digest(imagefiles.listing(request, _list), request.work_dir)


def load(request: Request) -> Source:
    """The images, by class. What there is to say of the folder is logged here, and so once for each preparation."""
    listing = imagefiles.listing(request, _list)
    listing.tell()
    return imagefiles.source(listing, request, describe(request))
