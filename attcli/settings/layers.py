"""Where every setting comes from: flags > ATTCLI_* > params.yaml > the recipe > the defaults."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from attcli import registry
from attcli.errors import UserError
from attcli.registry import known
from attcli.settings import recipes
from attcli.settings.checks import check
from attcli.settings.files import parse_value, read_yaml
from attcli.settings.models import CONTENT, Runtime, Settings

PARAMS = Path("params.yaml")
PREFIX = "ATTCLI_"
LONGEST = 80
"""Characters of a wrong value that a message repeats."""

SELECTORS = ("distill.method", "prepare.dataset", "distill.ipc")
"""What a recipe is found by."""


@dataclass(frozen=True)
class Resolved:
    """The settings, and where each value (by dotted name) came from."""

    settings: Settings
    origin: dict[str, str]
    recipe: str
    recipe_found: bool
    """Whether there is a recipe for just this method, dataset and ipc; otherwise `recipe` may be the nearest one's."""

    def content_not_from_params(self) -> list[str]:
        """The content settings that params.yaml does not hold."""
        return [
            name
            for name, origin in self.origin.items()
            if name.split(".")[0] in CONTENT and not origin.endswith((".yaml", ".yml"))
        ]


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
    found: dict[str, Any] = {}
    for name, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def flat(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A params file's sections as dotted names. UserError for what is no setting."""
    found: dict[str, Any] = {}
    everything = list(names())
    sections = {name.split(".")[0] for name in everything if "." in name}
    for section, values in content.items():
        if section in sections:
            if not isinstance(values, Mapping):
                raise UserError(f"{origin}: section {section!r} must hold settings, as `{section}: {{key: value}}`")
            found |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            found[str(section)] = values
    for name in found:
        known(f"setting in {origin}:", name, everything, listing="see `attcli config`")
    return found


def assignment(text: str) -> tuple[str, Any]:
    """`key=value` of --set. UserError where there is no `=` or no such key."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write --set key=value, such as --set distill.lr_img=1000")
    known(f"setting in --set {text}:", name.strip(), names(), listing="see `attcli config`")
    return name.strip(), parse_value(value)


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
            values[f"runtime.{name}"] = parse_value(value)
        elif name in {setting.rpartition(".")[2] for setting in names()}:
            settable = ", ".join(PREFIX + field.upper() for field in Runtime.model_fields)
            raise UserError(f"{variable} is no runtime setting; unset it and use --set ({settable})")
        elif near := get_close_matches(name, Runtime.model_fields, n=1, cutoff=0.8):
            raise UserError(f"{variable} is no setting; did you mean {PREFIX}{near[0].upper()}? Otherwise rename it")
    return values  # other variables of that prefix are somebody else's


def _explain(error: ValidationError, origin: Mapping[str, str]) -> UserError:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and not part[0].isupper())
    name = next((known_name for known_name in origin if name == known_name or name.startswith(known_name)), name)
    source = f" (from {origin[name]})" if origin.get(name, "default") != "default" else ""
    message = first["msg"][0].lower() + first["msg"][1:]
    value = repr(first["input"])
    shown = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    return UserError(f"{name}: {message}, not {shown}{source}; see `attcli config --schema`")


def _choices(method: str) -> dict[str, Any]:
    """What a method chooses on its axes."""
    from attcli import methods

    return methods.load(method).settings()


def _of_recipe(recipe: recipes.Recipe, method: str) -> dict[str, Any]:
    """A recipe's values. For methods joined by `+` the choices of the recipe's own method give way to theirs."""
    values = recipe.settings()
    if "+" not in method:
        return values
    own = _choices(recipe.name.split("/")[0])
    return {name: value for name, value in values.items() if name not in own or value != own[name]}


def _refuse_contradictions(flags: Mapping[str, Any], params: Mapping[str, Any], path: Path) -> None:
    """UserError where flags ask for another method, dataset or ipc than a params file that is read by itself."""
    for name in SELECTORS:
        if name in flags and name in params and _plain(flags[name]) != _plain(params[name]):
            raise UserError(
                f"{name} {flags[name]} is asked for, but {path} in this folder is for {params[name]}, and decides all "
                f"other settings; work in another folder, or change {path} (`attcli recipes use NAME --force`), "
                f"or read it all the same with --params {path}"
            )


def _plain(value: Any) -> str:
    """A selector's value as it is compared: case does not matter."""
    return str(value).lower()


CASELESS = {"distill.method": "method", "prepare.dataset": "dataset", "network.arch": "network"}
"""Settings that name a choice, which may be written in any case, as in ATT or CIFAR-10."""


def _named(name: str, value: Any) -> Any:
    """The value of a setting that names a choice, in the spelling of that choice."""
    if name == "evaluate.archs" and isinstance(value, (str, list, tuple)):
        parts = value.split(",") if isinstance(value, str) else value
        named = [_named("network.arch", str(part).strip()) for part in parts]
        return tuple(dict.fromkeys(arch for name in named for arch in registry.network_pool(name)))
    if name not in CASELESS or not isinstance(value, str):
        return value
    spellings = {known_name.lower(): known_name for known_name in registry.names(CASELESS[name])}
    return "+".join(
        spellings.get(part.lower(), spellings.get(part.lower().replace("-", ""), part)) for part in value.split("+")
    )


def resolve(
    flags: Mapping[str, Any] | None = None,
    params: Path | None = None,
    environ: Mapping[str, str] | None = None,
    recipe: str | None = None,
    ignore_params: bool = False,
) -> Resolved:
    """Merge all layers and check the result. `flags` holds dotted names; `params` defaults to ./params.yaml.

    The recipe is the one for the method, dataset and ipc that the other layers ask for, or the one named.
    UserError, in one line, for whatever is wrong.
    """
    path = params or PARAMS
    there = not ignore_params and (params is not None or path.exists())
    from_params = flat(read_yaml(path), str(path)) if there else {}
    if params is None:
        _refuse_contradictions(flags or {}, from_params, path)
    environment = _environment(os.environ if environ is None else environ)
    upper: list[tuple[str, Mapping[str, Any]]] = [
        (source, {name: _named(name, value) for name, value in layer.items()})
        for source, layer in (("flag", flags or {}), ("environment", environment), (str(path), from_params))
    ]

    def asked(name: str, default: Any) -> Any:
        return next((layer[name] for _, layer in upper if name in layer), default)

    defaults = Settings()
    method = asked("distill.method", defaults.distill.method)
    dataset, ipc = asked("prepare.dataset", defaults.prepare.dataset), asked("distill.ipc", defaults.distill.ipc)
    chosen = recipes.get(recipe) if recipe else recipes.find(str(method), dataset, ipc)
    exact = chosen is not None
    if chosen is None and isinstance(ipc, int):
        chosen = recipes.nearest(str(method), dataset, ipc)
    of_recipe = _of_recipe(chosen, str(method)) if chosen else {}
    name = chosen.name if chosen else recipes.name_of(method, dataset, ipc)
    of_method = _choices(str(asked("distill.method", of_recipe.get("distill.method", method))))
    layers = [*upper, (f"recipe {name}", of_recipe), (f"method {method}", of_method)]
    values: dict[str, Any] = {}
    origin = dict.fromkeys(names(), "default")
    for source, layer in reversed(layers):
        values.update(layer)
        origin.update(dict.fromkeys(layer, source))
    nested = _nested(values)
    nested["runtime"] = Runtime.model_construct().model_dump() | nested.get("runtime", {})
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        raise _explain(error, origin) from None
    check(settings)
    return Resolved(settings, origin, name, exact)
