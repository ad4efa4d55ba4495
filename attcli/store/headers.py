"""What a header may say: a model for each kind of artefact, which is checked before anything of the file is used."""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]
Size = Annotated[int, Field(ge=1, le=65_536, strict=True)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{16,64}$")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
MOST_PARAMETERS = 10**9
"""The most parameters that a set's header may ask for: four gigabytes in float32, forty times a ResNet-18."""


class About(BaseModel):
    """Facts of an artefact; a kind's own facts have types and bounds, others are let through."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)


class Normaliser(About):
    """The normaliser's kind and hash."""

    kind: Literal["zca", "standardise"]
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
    classes: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    channels: Annotated[int, Field(ge=1, le=1024, strict=True)]
    resolution: Annotated[int, Field(ge=1, le=8192, strict=True)]
    value_scale: Annotated[float, Field(gt=0, le=1)]
    normaliser: Normaliser


class Imported(About):
    """The file that a set or an expert was imported from."""

    file: Annotated[str, Field(min_length=1, max_length=300)]
    sha256: Digest


class Expert(Dataset):
    """An expert's trajectory."""

    network: Network
    layout: list[tuple[str, list[Annotated[int, Field(ge=0, le=10**9)]]]]
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

    augment: Annotated[str, Field(max_length=200)]
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
    iteration: Count
    counts: dict[str, Count]
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


class Versions(BaseModel):
    """The software that made it."""

    model_config = ConfigDict(extra="allow")


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
        r"lr|learned/lr",
        r"labels|constants/labels|learned/logits",
        r"images|learned/(?!lr|logits).*",
        r"ema|averages/.*",
    ],
    "history": ["iteration", "step", "l1", "l2"],
    "normaliser": ["normaliser/mean"],
}
"""What each kind has to hold: of each of these patterns at least one array."""

ARRAYS = {
    "dataset": r"(train|validation|test)/(images|labels)|train/digests|normaliser/(mean|std|vectors|values)",
    "expert": r"parameters|loss|accuracy|digests|velocity",
    "synthetic": r"images|ema|labels(/\w+)?|lr|(synthetic|ema)/\w+/\w+|constants/\w+|"
    r"normaliser/(mean|std|vectors|values)",
    "snapshot": r"images|ema|labels|lr|momentum_\w+|(learned|constants|averages)/\w+|(moments|scales)/\w+/\w+",
    "history": r"iteration|span|expert|start_epoch|step|loss|lr|seconds|accepted|l1|l2",
    "normaliser": r"normaliser/(mean|std|vectors|values)",
}
"""The names of the arrays that each kind may hold, as patterns."""

LearningRate = PositiveFloat


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
