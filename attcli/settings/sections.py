"""What the sections of settings are made of: types that several use, and the options of choices."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, NonNegativeInt, create_model

from attcli import registry
from attcli.options import Section, listed


def each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names without repetitions, in their order."""
    return tuple(dict.fromkeys(names))


def or_none(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names; nothing for the single word `none`. ValueError where it stands beside others."""
    if "none" in names and len(names) > 1:
        raise ValueError("none stands alone; leave out none or the other names")
    return () if names == ("none",) else names


Precision = Annotated[
    Literal["float64", "float32", "tf32", "bfloat16"],
    Field(
        description="number format of the computation: float64, float32, tf32 or bfloat16; with the last two, "
        "parameters and sums stay float32"
    ),
]
SeedOfTraining = Annotated[
    NonNegativeInt | None,
    Field(description="seed of initial weights, order of images and augmentation; default: the setting seed"),
]
S = TypeVar("S", bound=Section)
Names = Annotated[tuple[str, ...], BeforeValidator(listed)]


def with_options(*kinds: str) -> Any:
    """A section that holds the options which the choices of these kinds declare beside themselves."""
    fields = {name: (field.annotation, field) for kind in kinds for name, field in registry.all_options(kind).items()}
    return create_model("Options", __base__=Section, **fields)  # type: ignore[call-overload]


def options_last(section: type[S]) -> type[S]:
    """The section with its own settings before the options of choices, in the order in which both are listed."""
    fields = section.__pydantic_fields__
    options = [name for name in fields if name not in section.__annotations__]
    section.__pydantic_fields__ = {name: fields.pop(name) for name in [*section.__annotations__, *options]}
    section.model_rebuild(force=True)
    return section
