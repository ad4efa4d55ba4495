"""Tiny ImageNet (64 x 64) and six subsets of ImageNet with ten classes each (128 x 128), from their image files."""

from dataclasses import replace
from pathlib import Path

from pydantic import PositiveInt

from attcli.data import contents, imagefiles
from attcli.data.listing import Folder, Labelled, Listing, by_class, numbered
from attcli.data.sources import DatasetInfo, Request, Source
from attcli.errors import MissingError, UserError

SMALLEST_CLASS = 732
"""The fewest training images of any of ImageNet's classes, so a bound for each subset's."""

LITERATURE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's customary statistics."""

NORMALISE = "literature"
"""How images are normalised where no recipe says it: ZCA would take long at 64 x 64, and is refused above."""

TITLES = {
    "imagenette": "ImageNette",
    "imagewoof": "ImageWoof",
    "imagefruit": "ImageFruit",
    "imageyellow": "ImageYellow",
    "imagemeow": "ImageMeow",
    "imagesquawk": "ImageSquawk",
}

CLASSES = {
    "imagenette": {
        "n01440764": "tench",
        "n02102040": "English springer",
        "n02979186": "cassette player",
        "n03000684": "chain saw",
        "n03028079": "church",
        "n03394916": "French horn",
        "n03417042": "garbage truck",
        "n03425413": "gas pump",
        "n03445777": "golf ball",
        "n03888257": "parachute",
    },
    "imagewoof": {
        "n02096294": "Australian terrier",
        "n02093754": "Border terrier",
        "n02111889": "Samoyed",
        "n02088364": "beagle",
        "n02086240": "Shih-Tzu",
        "n02089973": "English foxhound",
        "n02087394": "Rhodesian ridgeback",
        "n02115641": "dingo",
        "n02099601": "golden retriever",
        "n02105641": "Old English sheepdog",
    },
    "imagefruit": {
        "n07753275": "pineapple",
        "n07753592": "banana",
        "n07745940": "strawberry",
        "n07747607": "orange",
        "n07749582": "lemon",
        "n07768694": "pomegranate",
        "n07753113": "fig",
        "n07720875": "bell pepper",
        "n07718472": "cucumber",
        "n07742313": "Granny Smith",
    },
    "imageyellow": {
        "n02206856": "bee",
        "n12057211": "yellow lady's slipper",
        "n07753592": "banana",
        "n07749582": "lemon",
        "n12144580": "corn",
        "n04146614": "school bus",
        "n03530642": "honeycomb",
        "n02129165": "lion",
        "n01773157": "black and gold garden spider",
        "n01531178": "goldfinch",
    },
    "imagemeow": {
        "n02123045": "tabby",
        "n02123159": "tiger cat",
        "n02123394": "Persian cat",
        "n02123597": "Siamese cat",
        "n02124075": "Egyptian cat",
        "n02129165": "lion",
        "n02129604": "tiger",
        "n02128925": "jaguar",
        "n02128757": "snow leopard",
        "n02127052": "lynx",
    },
    "imagesquawk": {
        "n01806143": "peacock",
        "n02007558": "flamingo",
        "n01818515": "macaw",
        "n02051845": "pelican",
        "n02056570": "king penguin",
        "n01614925": "bald eagle",
        "n01843383": "toucan",
        "n01518878": "ostrich",
        "n01860187": "black swan",
        "n01819313": "sulphur-crested cockatoo",
    },
}
"""The classes of each subset by their WordNet ids, in the order of their labels."""

INFO = (
    DatasetInfo(
        "tinyimagenet",
        "Tiny ImageNet",
        classes=200,
        channels=3,
        resolution=64,
        train=100_000,
        smallest_class=500,
        test=10_000,
        literature=LITERATURE,
        normalise=NORMALISE,
    ),
    *(
        DatasetInfo(
            name,
            title,
            classes=10,
            channels=3,
            resolution=128,
            train=10 * SMALLEST_CLASS,
            smallest_class=SMALLEST_CLASS,
            test=500,
            literature=LITERATURE,
            normalise=NORMALISE,
        )
        for name, title in TITLES.items()
    ),
)

ANNOTATIONS = "val/val_annotations.txt"


class Options(imagefiles.Options):
    """How image files are read."""

    resolution: PositiveInt | None = imagefiles.RESOLUTION


def _root(request: Request, places: list[str], file: str) -> Path:
    """The first of the places below the data folder that has `file`. MissingError where none has."""
    root = next((path for place in places if (path := request.data_dir / place / file).exists()), None)
    if root is None:
        raise MissingError(
            f"{request.name} is not in {request.data_dir}: there is no {file} there, nor in its folder "
            f"{' or '.join(places[1:])}; unpack it there, or name its folder with --data-dir"
        )
    return Path(*root.parts[: len(root.parts) - file.count("/") - 1])


def _tiny(request: Request) -> Listing:
    folder = Folder(_root(request, ["", "tiny-imagenet-200"], "train/n01443537"))
    files = by_class(folder, "train", None)
    if empty := [name for name, paths in files.items() if not paths]:
        raise UserError(f"{folder.root / 'train' / empty[0]} has no images; unpack Tiny ImageNet again")
    classes = tuple(files)
    return Listing(folder.root, classes, numbered(files), _tiny_tests(folder, classes), folder.stamps)


def _tiny_tests(folder: Folder, classes: tuple[str, ...]) -> Labelled:
    """The validation images, which serve as test images: by the official list, or in a folder per class."""
    annotations = folder.root / ANNOTATIONS
    numbers = {name: number for number, name in enumerate(classes)}
    if not (folder.root / "val").is_dir():
        raise UserError(f"{folder.root} has no folder val; unpack Tiny ImageNet again")
    inner = folder.folders("val")
    flat = folder.images("val/images") if "images" in inner and not folder.folders("val/images") else []
    if not flat:
        below = "val/images" if "images" in inner and folder.folders("val/images") else "val"
        names = [name for name in folder.folders(below) if name != "images"]
        if unknown := [name for name in names if name not in numbers]:
            raise UserError(
                f"{folder.root / below} has the class {unknown[0]}, which train/ does not have; "
                "unpack Tiny ImageNet again"
            )
        if not names:
            raise UserError(f"{folder.root / below} has no images; unpack Tiny ImageNet again")
        return [(path, numbers[name]) for name in sorted(names) for path in folder.images(f"{below}/{name}")]
    if not annotations.exists():
        raise UserError(f"{annotations} is missing, which says the classes of val/images; unpack Tiny ImageNet again")
    lines = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines() if line.strip()]
    labels = {f"val/images/{line[0]}": line[1] if len(line) > 1 else "" for line in lines}
    for path in flat:
        if labels.get(path) not in numbers:
            raise UserError(f"{annotations} gives {path} no class that train/ has; unpack Tiny ImageNet again")
    return [(path, numbers[labels[path]]) for path in flat]


def _subset(request: Request) -> Listing:
    classes = CLASSES[request.name]
    first = next(iter(classes))
    folder = Folder(_root(request, ["", "imagenet", request.name, "ILSVRC/Data/CLS-LOC"], f"train/{first}"))
    parts = {}
    for part in ("train", "val"):
        names = folder.folders(part) if (folder.root / part).is_dir() else []
        missing = [name for name in classes if name not in names]
        if missing:
            raise UserError(
                f"{folder.root / part} has no folder {missing[0]} ({classes[missing[0]]}); put the images of each "
                f"class into a folder named by its WordNet id"
            )
        files = {name: folder.images(f"{part}/{name}") for name in classes}
        if empty := [name for name, paths in files.items() if not paths]:
            raise UserError(f"{folder.root / part / empty[0]} has no images; unpack ImageNet there")
        parts[part] = numbered(files)
    return Listing(folder.root, tuple(classes.values()), parts["train"], parts["val"], folder.stamps)


def _listing(request: Request) -> Listing:
    return imagefiles.listing(request, _tiny if request.name == "tinyimagenet" else _subset)


def describe(request: Request) -> DatasetInfo:
    """The facts of the files that are there; where there are none, those of the complete dataset."""
    info = next(info for info in INFO if info.name == request.name)
    resolution = request.options.resolution or info.resolution
    try:
        files = _listing(request)
    except MissingError:
        return replace(info, resolution=resolution)
    own = {"literature": LITERATURE, "normalise": NORMALISE}
    return imagefiles.facts(files, request, info.name, info.title, 3, resolution, **own)


def digest(request: Request) -> str:
    """The SHA-256 of all images, their names and classes. MissingError where they are not there."""
    return contents.digest(_listing(request), request.work_dir)


def load(request: Request) -> Source:
    """The training images, and the validation images as test images. MissingError where they are not there."""
    return imagefiles.source(_listing(request), request, describe(request))
