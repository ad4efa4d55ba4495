"""What a header may say: a model for each kind of artefact, which is checked before anything of the file is used."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from attcli.errors import printable

Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]
Size = Annotated[int, Field(ge=1, le=65_536, strict=True)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{16,64}$")]


def _printable(name: str) -> str:
    """A name that can be printed, and written into a page or a card, as it is."""
    if not printable(name):
        raise ValueError("a name with line breaks or characters that do not show themselves")
    return name


Plain = Annotated[str, AfterValidator(_printable)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
ClassName = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]
OPERATION = "(color|crop|cutout|flip|scale|rotate)"
PART = f"{OPERATION}(_{OPERATION})*"
"""An operation of the augmentation."""

AUGMENTATION = rf"^(none|{PART}(\+{PART})*)$"
"""What images may be augmented by, as a pattern."""

MOST_PARAMETERS = 10**9
"""The most parameters that a set's header may ask for: four gigabytes in float32, forty times a ResNet-18."""


class About(BaseModel):
    """Facts of an artefact; a kind's own facts have types and bounds, others are let through."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)


class Normaliser(About):
    """The normaliser's kind and hash."""

    kind: Literal["zca", "contrast", "standardise"]
    eps: Annotated[float, Field(ge=0, le=1e6)]
    sha256: Digest


class Network(About):
    """The network's name; the options that bound its size."""

    arch: Name
    depth: Annotated[int, Field(ge=1, le=100)] | None = None
    width: Size | None = None


class Dataset(About):
    """A prepared dataset."""

    dataset: Name
    classes: Annotated[list[ClassName], Field(min_length=1, max_length=100_000)]
    channels: Annotated[int, Field(ge=1, le=1024, strict=True)]
    resolution: Annotated[int, Field(ge=1, le=8192, strict=True)]
    value_scale: Annotated[float, Field(gt=0, le=1)]
    normaliser: Normaliser


class Imported(About):
    """The file that a set or an expert was imported from."""

    file: Annotated[Plain, Field(min_length=1, max_length=300)]
    sha256: Digest


class Expert(Dataset):
    """An expert's trajectory."""

    network: Network
    layout: list[tuple[Name, list[Annotated[int, Field(ge=0, le=10**9)]]]]
    dataset_sha256: Digest
    imported: Imported | None = None


class Choice(About):
    """A parameterisation or storage by name; its options are let through, and checked by the choice itself."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")]


class Coding(About):
    """How a set is learned and kept."""

    parameterisation: Choice
    storage: Choice
    labels: Choice | None = None


class Protocol(About):
    """The set's own evaluation protocol."""

    augment: Annotated[str, Field(max_length=200, pattern=AUGMENTATION)]
    protocol: Name | None = None
    epochs: Annotated[int, Field(ge=1, le=10**7)] | None = None
    batch: Annotated[int, Field(ge=1, le=10**9)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None


class Synthetic(Dataset):
    """A distilled set, or one of its snapshots."""

    method: Name
    ipc: Annotated[int, Field(ge=1, le=10**6, strict=True)]
    images_per_class: Annotated[int, Field(ge=1, le=10**7, strict=True)] | None = None
    coding: Coding | None = None
    network: Network
    protocol: Protocol
    prepare: dict[str, Any] | None = None
    made_with: dict[str, Any] | None = None
    iteration: Count
    counts: dict[Name, Count]
    dataset_sha256: Digest
    seed: Count
    imported: Imported | None = None

    @property
    def images(self) -> int:
        """The number of images of the set."""
        return len(self.classes) * (self.images_per_class or self.ipc)


class History(About):
    """A distillation's history."""

    method: Name
    iterations: Count


MODELS: dict[str, type[About]] = {
    "dataset": Dataset,
    "expert": Expert,
    "synthetic": Synthetic,
    "snapshot": Synthetic,
    "history": History,
    "normaliser": Dataset,
}

REQUIRED = {
    "dataset": [r"(train|validation|test)/images", r"(train|validation|test)/labels", "normaliser/mean"],
    "expert": ["parameters", "digests", "loss", "accuracy"],
    "synthetic": [r"labels(/.*)?", "lr", r"images|synthetic/.*"],
    "snapshot": [
        r"learned/lr",
        r"constants/labels|learned/logits",
        r"learned/(?!lr|logits|rates).*",
        r"averages/.*",
    ],
    "history": ["iteration", "step", "l1", "l2"],
    "normaliser": ["normaliser/mean"],
}
"""What each kind has to hold: of each of these patterns at least one array."""

ARRAYS = {
    "dataset": r"(train|validation|test)/(images|labels)|train/digests|normaliser/(mean|std|vectors|values)",
    "expert": r"parameters|loss|accuracy|digests|velocity|waypoints|positions",
    "synthetic": r"images|ema|labels(/\w+)?|lr|rates|(synthetic|ema)/\w+/\w+|constants/\w+|"
    r"normaliser/(mean|std|vectors|values)",
    "snapshot": r"(learned|constants|averages|memory)/\w+|(moments|scales)/\w+/\w+",
    "history": r"iteration|span|expert|start_epoch|step|loss|lr|seconds|accepted|l1|l2",
    "normaliser": r"normaliser/(mean|std|vectors|values)",
}
"""The names of the arrays that each kind may hold, as patterns."""

LARGEST = 4 << 20
"""Characters of a header's JSON."""

DEEPEST = 30
"""How deeply lists and mappings of a header's JSON lie in each other at most."""

PLAIN = re.compile(r"[\w:.-]{1,100}", re.ASCII)
"""Fingerprints and checksums."""


def parsed(text: str) -> Any:
    """What a header's JSON says. ValueError where it is none, or longer or deeper than any that is meant."""
    if len(text) > LARGEST:
        raise ValueError("its header is too long")
    content = json.loads(text)
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        if not level:
            return content
    raise ValueError("its header is nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def misshapen(kind: str, shapes: Mapping[str, tuple[int, ...]], about: Mapping[str, Any]) -> str | None:
    """What is wrong with the shapes of a file's arrays, where they do not fit each other or the header."""
    if kind == "expert":
        rows = shapes["parameters"][:1]
        size = sum(math.prod(shape) for _, shape in about["layout"])
        epochs: tuple[int, ...] = (rows[0] - 1,) if rows else ()
        wanted: dict[str, tuple[int, ...]] = {"parameters": (*rows, size), "digests": (*rows, 32)}
        if "positions" in shapes or "waypoints" in shapes:  # a compact one
            epochs = shapes["loss"]
            wanted |= {"waypoints": rows, "positions": (*(n + 1 for n in epochs), len(about["layout"]))}
        wanted |= {"loss": epochs, "accuracy": epochs}
        if not rows or not size or rows[0] < 1 or any(shapes.get(name) != shape for name, shape in wanted.items()):
            return "its arrays are of other shapes than its layout and its epochs"
    if kind == "history":
        columns = {shape[:1] for shape in shapes.values()}
        dimensions = {name: 2 if name in ("l1", "l2") else 1 for name in shapes}
        if len(columns) != 1 or any(len(shape) != dimensions[name] for name, shape in shapes.items()):
            return "its columns are of different lengths"
    return None


def missing(kind: str, names: Iterable[str]) -> str | None:
    """The first pattern that none of a file's arrays fits, where one is missing."""
    present = list(names)
    return next((p for p in REQUIRED.get(kind, []) if not any(re.fullmatch(p, name) for name in present)), None)


def problem(kind: str, about: Any) -> str | None:
    """What is wrong with the facts of a header, in a line; None if nothing is."""
    try:
        MODELS.get(kind, About).model_validate_json(json.dumps(about))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "about"
        return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}"
    except RecursionError:
        return "about: nested too deeply"
    return None
