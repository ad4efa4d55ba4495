"""What there is by name: datasets, networks, methods and other choices. Free of torch.

A choice is a module. This package's own are found by their file's name; those of other packages by their entry points,
in groups such as `attcli.networks`, whose values are modules of the same form. Modules are imported without torch,
which they import where they need it, so that settings can be checked in no time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from pydantic.fields import FieldInfo

from attcli.errors import UserError
from attcli.options import DatasetInfo, Section

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """A kind of choice: the folder of its modules, the files there that are none, and the setting that chooses."""

    folder: str
    setting: str
    others: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The group of entry points in which other packages offer such choices."""
        return GROUPS.get(self.folder, f"attcli.{self.folder}")


GROUPS = {"data/sources": "attcli.datasets", "storage": "attcli.storages"}
"""Groups that are not called as the folder is."""

KINDS = {
    "dataset": Kind("data/sources", "prepare.dataset"),
    "network": Kind("networks", "network.arch", ("norms", "blocks")),
    "trainer": Kind("trainers", "buffer.trainer", ("training",)),
    "method": Kind("methods", "distill.method"),
    "objective": Kind("objectives", "distill.objective"),
    "parameterisation": Kind("parameterisations", "distill.parameterisation"),
    "storage": Kind("storage", "distill.storage"),
    "baseline": Kind("baselines", "evaluate.baselines"),
}


@cache
def _own(kind: str) -> dict[str, str]:
    """The modules of a kind in this package, by name."""
    folder = KINDS[kind].folder
    files = sorted(path.stem for path in (PACKAGE / folder).glob("*.py"))
    dotted = f"attcli.{folder.replace('/', '.')}"
    choices = [name for name in files if name not in ("__init__", *KINDS[kind].others)]
    return {name.replace("_", "-"): f"{dotted}.{name}" for name in choices}


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    """Other packages' modules of a kind, by name. UserError where a name is taken."""
    found: dict[str, EntryPoint] = {}
    taken = datasets_of_this_package() if kind == "dataset" else _own(kind)
    for entry in entry_points(group=KINDS[kind].group):
        if entry.name in taken or entry.name in found:
            raise UserError(f"{_package(entry)} offers a {kind} {entry.name!r}, a name that is taken; uninstall it")
        found[entry.name] = entry
    return found


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else f"entry point {entry.value}"


@cache
def names(kind: str) -> tuple[str, ...]:
    """The names of all choices of a kind."""
    own = datasets_of_this_package() if kind == "dataset" else _own(kind)
    return (*own, *_plugins(kind))


@cache
def module(kind: str, name: str) -> ModuleType:
    """The module of a choice. UserError if there is none, or if another package's fails to be imported."""
    known(kind, name, names(kind))
    if name in _plugins(kind):
        entry = _plugins(kind)[name]
        try:
            return import_module(entry.value)
        except Exception as error:  # whatever a foreign package raises
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{kind} {name!r} of {_package(entry)} cannot be imported ({reason})") from None
    return import_module(datasets_of_this_package()[name] if kind == "dataset" else _own(kind)[name])


def options(kind: str, name: str) -> dict[str, FieldInfo]:
    """The options that a choice reads, by name; none for a choice that declares none."""
    declared: type[Section] | None = getattr(module(kind, name), "Options", None)
    return dict(declared.model_fields) if declared else {}


def all_options(kind: str) -> dict[str, FieldInfo]:
    """The options of all choices of a kind; UserError where two declare one name differently."""
    fields: dict[str, FieldInfo] = {}
    for name in names(kind):
        try:
            declared = options(kind, name)
        except UserError:
            continue  # a package that can't be imported is told when its choice is asked for
        for option, field in declared.items():
            before = fields.setdefault(option, field)
            if before.annotation != field.annotation:
                raise UserError(f"{kind} {name!r} declares the option {option!r} in another type than others do")
    return fields


@cache
def datasets_of_this_package() -> dict[str, str]:
    """The module of every dataset of this package, by the dataset's name; a module may describe several."""
    return {info.name: path for path in _own("dataset").values() for info in import_module(path).INFO}


def source(name: str) -> ModuleType:
    """The module that loads the dataset `name`."""
    return module("dataset", name)


def dataset(name: str) -> DatasetInfo:
    """The facts of the dataset `name`; UserError if there is none."""
    known("dataset", name, names("dataset"))
    info: DatasetInfo = next(info for info in source(name).INFO if info.name == name)
    return info


def known(kind: str, name: str, names: Iterable[str], listing: str | None = None) -> str:
    """`name`, if it is one of `names`; otherwise a UserError with the nearest one, and all of them or where to look."""
    names = list(names)
    if name in names:
        return name
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = name if len(name) <= 80 else f"{name[:80]}…"
    raise UserError(f"unknown {kind} {shown!r}; {hint}{listing or 'there are: ' + ', '.join(names)}")
