"""Where every setting comes from.

Each value is that of the first layer that has one: flags, ATTCLI_* variables (runtime settings only), the params file,
the recipe, the method's own choices, what the dataset's module declares, the defaults.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from attcli import registry
from attcli.errors import UserError, brief
from attcli.settings import messages, recipes
from attcli.settings.checks import check
from attcli.settings.files import parse_value, read_yaml
from attcli.settings.models import CONTENT, Runtime, Settings
from attcli.settings.spelling import canonical

PARAMS = Path("params.yaml")
PREFIX = "ATTCLI_"

SELECTORS = ("distill.method", "prepare.dataset", "distill.ipc")
"""What a recipe is found by."""


@dataclass(frozen=True)
class Resolved:
    """The settings, and where each value (by dotted name) came from.

    origin: for each dotted name `flag`, `environment`, the path of the params file, `recipe NAME`, `method NAME`,
    `dataset NAME` or `default`.
    recipe: the name of the recipe that the settings rest on, or the one that would be for them if there were any.
    recipe_found: whether there is a recipe for just this method, dataset and ipc; otherwise it may be the nearest one.
    params: the params file that was read; None where none was.
    unlike: choices of the method that the params file has otherwise, by dotted name: its value, and the method's.
    """

    settings: Settings
    origin: dict[str, str]
    recipe: str
    recipe_found: bool
    params: Path | None
    unlike: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)

    @property
    def rests_on_recipe(self) -> bool:
        """Whether there is a recipe at all from which settings were taken."""
        return any(origin.startswith("recipe ") for origin in self.origin.values())

    def content_not_from_params(self) -> list[str]:
        """The content settings that the params file does not hold, or that a flag overrules."""
        held = None if self.params is None else str(self.params)
        return [name for name, origin in self.origin.items() if name.split(".")[0] in CONTENT and origin != held]


def names(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def description(name: str) -> str:
    """What a setting is, in a line."""
    section, _, key = name.partition(".")
    field = Settings.model_fields[section]
    if key:
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        field = model.model_fields[key]
    return field.description or ""


def values_of(settings: Settings) -> dict[str, Any]:
    """Every setting's value, as plain JSON would hold it, by dotted name."""
    values: dict[str, Any] = {}
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            values |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            values[name] = value
    return values


def flat(content: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """The settings in the sections of a params file, by dotted name. UserError for what is no setting.

    Without a path they were given from Python, where dotted names and sections may stand beside each other.
    """
    settings = list(names())
    sections = {name.split(".")[0] for name in settings if "." in name}
    values: dict[str, Any] = {}
    for section, content_of_section in content.items():
        if section not in sections:
            values[str(section)] = content_of_section
        elif isinstance(content_of_section, Mapping):
            values |= {f"{section}.{key}": value for key, value in content_of_section.items()}
        else:
            raise messages.no_section(section, path)
    for name in values:
        if name not in settings:
            raise messages.unknown_in_file(name, path, settings) if path else messages.unknown(name, settings)
    return values


def assignment(text: str) -> tuple[str, Any]:
    """`key=value` of --set. UserError where there is no `=` or no such key."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {brief(text)}: write --set key=value, such as --set distill.lr_img=1000")
    name = name.strip()
    if name not in names():
        raise messages.unknown_assignment(name, text, list(names()))
    return name, _parsed(name, value)


def _parsed(name: str, text: str) -> Any:
    """A value that is written for a setting; paths stay as they are written, also if they look like numbers."""
    is_path = Path in (_annotation(name), *get_args(_annotation(name)))
    return text if is_path and parse_value(text) is not None else parse_value(text)


def _annotation(name: str) -> Any:
    section, _, key = name.partition(".")
    annotation = Settings.model_fields[section].annotation
    return annotation.model_fields[key].annotation if key else annotation  # type: ignore[union-attr]


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        if key:
            content.setdefault(section, {})[key] = value
        else:
            content[section] = value
    return content


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """ATTCLI_* variables; they reach runtime settings only, so that nothing that decides content hides from DVC."""
    values = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in Runtime.model_fields:
            values[f"runtime.{name}"] = _parsed(f"runtime.{name}", value)
        elif name in {setting.rpartition(".")[2] for setting in names()}:
            settable = ", ".join(PREFIX + field.upper() for field in Runtime.model_fields)
            raise UserError(f"{variable} is no runtime setting; unset it and use --set ({settable})")
        elif near := get_close_matches(name, Runtime.model_fields, n=1, cutoff=0.8):
            raise UserError(f"{variable} is no setting; did you mean {PREFIX}{near[0].upper()}? Otherwise rename it")
    return values  # other variables of that prefix are somebody else's


def _choices(method: str) -> dict[str, Any]:
    """What a method chooses on its axes."""
    from attcli import methods

    return methods.load(method).settings()


def _of_dataset(name: str) -> dict[str, Any]:
    """What a dataset's module declares of settings; nothing for a name that no dataset has, which the checks refuse."""
    if registry.base(name) not in registry.names("dataset"):
        return {}
    return {"prepare.normalise": registry.dataset(name).normalise}


def _of_recipe(recipe: recipes.Recipe, method: str) -> dict[str, Any]:
    """A recipe's values. For methods joined by `+` the choices of the recipe's own method give way to theirs."""
    values = recipe.settings()
    if "+" not in method:
        return values
    own = _choices(recipe.experiment.method)
    return {name: value for name, value in values.items() if name not in own or value != own[name]}


def _refuse_contradictions(flags: Mapping[str, Any], params: Mapping[str, Any], path: Path) -> None:
    """UserError where flags ask for another method, dataset or ipc than a params file that is read by itself."""
    for name in SELECTORS:
        if name in flags and name in params and canonical(name, flags[name]) != canonical(name, params[name]):
            raise UserError(
                f"{name} {brief(flags[name])} is asked for, but {path} in this folder is for {brief(params[name])}, "
                f"and decides all other settings; work in another folder, or edit {path} (`attcli recipes use NAME "
                f"--force` replaces all of it), or read it all the same with --params {path}"
            )


def _refuse_truths(values: Mapping[str, Any], settings: Settings, origin: Mapping[str, str], path: Path | None) -> None:
    """UserError where true or false stands for a number."""
    for name, value in values_of(settings).items():
        if isinstance(values.get(name), bool) and not isinstance(value, bool):
            raise messages.no_number(name, values[name], origin, path)


def resolve(
    flags: Mapping[str, Any] | None = None,
    params: Path | None = None,
    environ: Mapping[str, str] | None = None,
    recipe: str | recipes.Recipe | None = None,
    ignore_params: bool = False,
) -> Resolved:
    """Merge all layers and check the result. `flags` holds dotted names; `params` defaults to ./params.yaml.

    The recipe is the one for the method, dataset and ipc that the other layers ask for, or the one named or passed.
    UserError, in one line, for whatever is wrong.
    """
    path = None if ignore_params else params or (PARAMS if os.path.lexists(PARAMS) else None)
    from_params = flat(read_yaml(path), path) if path else {}
    if path and params is None:
        _refuse_contradictions(flags or {}, from_params, path)
    environment = _environment(os.environ if environ is None else environ)
    asked = [
        (source, {name: canonical(name, value) for name, value in layer.items()})
        for source, layer in (("flag", flags or {}), ("environment", environment), (str(path), from_params))
    ]
    for source, layer in asked:
        for setting, value in layer.items():
            messages.refuse_impossible(setting, value, dict.fromkeys([setting], source), path)
    base, name, exact = _base(asked, recipe)
    values: dict[str, Any] = {}
    origin = dict.fromkeys(names(), "default")
    for source, layer in reversed([*asked, *base]):
        values.update(layer)
        origin.update(dict.fromkeys(layer, source))
    nested = _nested(values)
    nested["runtime"] = Runtime.model_construct().model_dump() | nested.get("runtime", {})
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        raise messages.explain(error, origin, path) from None
    _refuse_truths(values, settings, origin, path)
    check(settings)
    return Resolved(settings, origin, name, exact, path, _unlike(settings, origin, base, path))


def _unlike(
    settings: Settings, origin: Mapping[str, str], base: "Layers", path: Path | None
) -> dict[str, tuple[Any, Any]]:
    """The choices of the method that a params file has otherwise than the method, or its recipe, would have them."""
    theirs: dict[str, Any] = {}
    for _, layer in reversed(base):
        theirs.update(layer)
    ours = values_of(settings)
    names_of_method = _choices(settings.distill.method)
    return {
        name: (ours[name], theirs[name])
        for name in names_of_method
        if isinstance(theirs[name], str) and origin[name] == str(path) and ours[name] != theirs[name]
    }


Layers = list[tuple[str, dict[str, Any]]]
"""What gives values to settings, the first one first: where from, and the values by dotted name."""


def _base(asked: Layers, recipe: str | recipes.Recipe | None) -> tuple[Layers, str, bool]:
    """The layers below what was asked for, the recipe's name, and whether it is for just what was asked for."""
    defaults = values_of(Settings())
    method, dataset, ipc = (
        next((layer[name] for _, layer in asked if name in layer), defaults[name]) for name in SELECTORS
    )
    if not isinstance(method, str) or not isinstance(dataset, str):
        return [], "", False  # which the models refuse
    if isinstance(recipe, recipes.Recipe):
        entry: recipes.Recipe | None = recipe
    else:
        entry = recipes.get(recipe) if recipe else recipes.find(method, dataset, ipc)
    exact = entry is not None
    if entry is None and isinstance(ipc, int):
        entry = recipes.nearest(method, dataset, ipc)
    of_recipe = _of_recipe(entry, method) if entry else {}
    name = entry.name if entry else str(recipes.Experiment(method, dataset, ipc))
    layers = [(f"recipe {name}", of_recipe), (f"method {method}", _choices(method))]
    return [*layers, (f"dataset {dataset}", _of_dataset(dataset))], name, exact
