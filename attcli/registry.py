"""What there is by name: datasets, networks, methods and other choices. Free of torch.

A choice is a module. This package's own are found by their file's name; those of other packages by their entry points,
in groups such as `attcli.networks`, whose values are modules of the same form. Modules are imported without torch,
which they import where they need it, so that settings can be checked in no time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic.fields import FieldInfo

from attcli.errors import UserError, brief
from attcli.options import DatasetInfo, Section

PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """A kind of choice: the folder of its modules, the files there that are none, and the setting that chooses, if any.

    A family is a file that stands for many choices, called FAMILY:NAME; its `member` gives the choice of a name.
    """

    folder: str
    setting: str
    others: tuple[str, ...] = ()
    families: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """The group of entry points in which other packages offer such choices."""
        return GROUPS.get(self.folder, f"attcli.{self.folder}")


GROUPS = {"data/sources": "attcli.datasets", "storage": "attcli.storages", "interchange": "attcli.formats"}
"""Groups that are not called as the folder is."""

KINDS = {
    "dataset": Kind("data/sources", "prepare.dataset"),
    "network": Kind("networks", "network.arch", ("norms", "blocks", "attention"), ("timm",)),
    "trainer": Kind("trainers", "buffer.trainer", ("training", "curriculum")),
    "method": Kind("methods", "distill.method"),
    "objective": Kind("objectives", "distill.objective", ("classwise", "inner", "real_images", "tapped")),
    "parameterisation": Kind("parameterisations", "distill.parameterisation"),
    "storage": Kind("storage", "distill.storage", ("floats", "affine")),
    "baseline": Kind("baselines", "evaluate.baselines"),
    "tracker": Kind("trackers", "runtime.trackers"),
    "format": Kind("interchange", "", ("packing", "tensors", "hub", "ddranking_score")),
}


@cache
def _own(kind: str) -> dict[str, str]:
    """The modules of a kind in this package, by name."""
    files = sorted(path.stem for path in (PACKAGE / KINDS[kind].folder).glob("*.py"))
    none = ("__init__", *KINDS[kind].others, *KINDS[kind].families)
    return {name.replace("_", "-"): f"{_package_of(kind)}.{name}" for name in files if name not in none}


def _package_of(kind: str) -> str:
    return f"attcli.{KINDS[kind].folder.replace('/', '.')}"


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    """Other packages' modules of a kind, by name. UserError where a name is taken."""
    plugins: dict[str, EntryPoint] = {}
    taken = datasets_of_this_package() if kind == "dataset" else _own(kind)
    for entry in entry_points(group=KINDS[kind].group):
        if entry.name in taken or entry.name in plugins:
            raise UserError(f"{_package(entry)} offers a {kind} {entry.name!r}, a name that is taken; uninstall it")
        plugins[entry.name] = entry
    return plugins


def _package(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist else f"entry point {entry.value}"


@cache
def names(kind: str) -> tuple[str, ...]:
    """The names of all choices of a kind."""
    own = datasets_of_this_package() if kind == "dataset" else _own(kind)
    return (*own, *_plugins(kind))


@cache
def module(kind: str, name: str) -> ModuleType:
    """The module of a choice, or a family's member, which offers the same functions.

    UserError if there is none, or if another package's fails to be imported.
    """
    family, colon, member = name.partition(":")
    if colon and family in KINDS[kind].families:
        choice: ModuleType = import_module(f"{_package_of(kind)}.{family}").member(member)
        return choice
    known(kind, name, names(kind), all_names(kind))
    if name in _plugins(kind):
        entry = _plugins(kind)[name]
        try:
            return import_module(entry.value)
        except Exception as error:  # whatever a foreign package raises
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{kind} {name!r} of {_package(entry)} cannot be imported ({reason}); fix that package or uninstall it"
            ) from None
    return import_module(datasets_of_this_package()[name] if kind == "dataset" else _own(kind)[name])


def answer(kind: str, name: str, question: str, default: Any, *given: Any) -> Any:
    """What a choice says to a question, by a function of its module; the default where it has no such function."""
    ask = getattr(module(kind, name), question, None)
    return default if ask is None else ask(*given)


def all_names(kind: str) -> str:
    """All names of a kind, as a message lists them."""
    return "there are: " + ", ".join([*names(kind), *(f"{family}:NAME" for family in KINDS[kind].families)])


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
                raise UserError(
                    f"{kind} {name!r} declares the option {option!r} in another type than others do; "
                    "uninstall its package"
                )
    return fields


@cache
def datasets_of_this_package() -> dict[str, str]:
    """The module of every dataset of this package, by the dataset's name; a module may describe several."""
    return {info.name: path for path in _own("dataset").values() for info in import_module(path).INFO}


def base(name: str) -> str:
    """The name of a choice without what follows a colon: `hf` of `hf:owner/name`."""
    return name.partition(":")[0]


def source(name: str) -> ModuleType:
    """The module that loads the dataset `name`."""
    return module("dataset", base(name))


OWN = ("folder", "hf")
"""Sources of anybody's images, which no recipe is for."""

OWN_IMAGES = "--dataset folder --data-dir PATH reads images of your own"
"""What is said to somebody who names a folder instead of a dataset."""

FOLDER_WORDS = ("imagefolder", "image_folder")
"""What other programs call a folder of own images."""


def dataset(name: str) -> DatasetInfo:
    """What is known of the dataset `name` without looking at files; UserError if there is none."""
    hint = f"for a folder: {OWN_IMAGES};" if _is_folder(name) else ""
    listing = f"there are: {', '.join(names('dataset'))}{'' if hint else f'; {OWN_IMAGES}'}"
    known("dataset", base(name), names("dataset"), listing, hint)
    info: DatasetInfo = next(info for info in source(name).INFO if info.name == base(name))
    return info


PAPERS = ("convnet", "mlp", "lenet", "alexnet", "vgg11", "resnet18", "resnet18ap")
"""The networks that the papers' sets are compared on, with instance norm where there is a norm."""

SMALLEST, LARGEST = 8, 512
"""Resolutions among which the nearest one that a network takes is looked for."""


def network_pool(name: str) -> tuple[str, ...]:
    """The networks that a name in a list of architectures stands for: `papers`, `all`, or the one of that name."""
    return {"papers": PAPERS, "all": names("network")}.get(name, (name,))


def check_network(name: str, resolution: int, options: Mapping[str, Any]) -> None:
    """UserError for a network that there is none of, that does not take such images, or whose options clash."""
    if ":" not in name:
        known("architecture", name, names("network"), all_names("network"))
    network = module("network", name)
    takes: Callable[[int], bool] = getattr(network, "takes", lambda resolution: True)
    if not takes(resolution):
        nearest = sorted(range(SMALLEST, LARGEST + 1), key=lambda size: abs(size - resolution))
        works = next((size for size in nearest if takes(size)), None)
        remedy = f"; the nearest size that it takes is {works}x{works}" if works else ""
        raise UserError(f"network {name} does not take images of {resolution}x{resolution}{remedy}")
    if hasattr(network, "check"):
        network.check(dict(options))


def _is_folder(name: str) -> bool:
    """Whether a name that no dataset has reads like a folder's, or is one's."""
    if base(name) in names("dataset") or not name:
        return False
    if name.startswith((".", "~")) or "/" in name.rstrip("/") or "\\" in name or name.lower() in FOLDER_WORDS:
        return True
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # no name that a folder can have
        return False


def known(kind: str, name: str, names: Iterable[str], listing: str | None = None, hint: str = "") -> str:
    """`name`, if it is one of `names`; otherwise a UserError.

    It says the `hint`, then the nearest name (beside a hint only if it is very near), then `listing`, or all names.
    """
    names = list(names)
    if name in names:
        return name
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.8 if hint else 0.6)
    nearest = f"did you mean {near[0]!r}?" if near else ""
    sentences = (hint, nearest, listing or f"there are: {', '.join(names)}")
    raise UserError(f"unknown {kind} {brief(name)}; {' '.join(filter(None, sentences))}")
