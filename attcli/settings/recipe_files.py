"""Files of recipes, checked: every mistake of a file in a line of its own."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attcli import registry
from attcli.errors import UserError, brief
from attcli.settings import messages
from attcli.settings.files import place, read_yaml
from attcli.settings.layers import SELECTORS, names, resolve
from attcli.settings.models import CONTENT, Settings
from attcli.settings.recipes import FOLDER, Recipe, Value, parse

PARTS = {"sources", "shared", "recipes"}
OF_A_RECIPE = {"title", "values", "published"}
PUBLISHED = {"network", "accuracy", "table"}
FORM = "write it as [value, source] or [value, source, what could not be verified]"
STRUCTURE = (
    "a file of recipes has the sections sources, shared (if need be) and recipes; see attcli/recipes in the package"
)


def own_files() -> list[Path]:
    """The files of attcli's own recipes."""
    return sorted(FOLDER.glob("*/*.yaml"))


def problems(path: Path) -> list[str]:
    """What is wrong in a file of recipes, a line for each mistake; empty where nothing is.

    UserError for a file that is missing or cannot be read as YAML.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; name a file of recipes, or leave it out to check attcli's own")
    content = read_yaml(path)
    return [f"{place(path, keys)}: {what}" for keys, what in _mistakes(content)]


Mistake = tuple[list[str], str]
"""The keys that lead to the place of a mistake, and what it is."""


def _mistakes(content: dict[str, Any]) -> Iterator[Mistake]:
    for part in content.keys() - PARTS:
        yield [str(part)], f"unknown section {brief(part)}; {STRUCTURE}"
    sections = {part: content.get(part) or {} for part in sorted(PARTS)}
    wrong = [part for part, section in sections.items() if not isinstance(section, dict)]
    if wrong or not sections["recipes"]:
        yield wrong[:1], f"{f'section {wrong[0]} holds no names with values' if wrong else 'no recipes'}; {STRUCTURE}"
        return
    sources, shared = sections["sources"], sections["shared"]
    for name, text in sources.items():
        if not isinstance(text, str) or not text.strip():
            yield ["sources", str(name)], f"source {brief(name)} must say in words where values were published"
    of_shared = list(_values(shared, ["shared"], sources))
    yield from of_shared
    for name, entry in sections["recipes"].items():
        yield from _recipe(str(name), entry, None if of_shared else shared, sources)


def _recipe(name: str, entry: Any, shared: dict[str, Any] | None, sources: dict[str, Any]) -> Iterator[Mistake]:
    """The mistakes of one recipe; `shared` is None where these values are wrong themselves."""
    keys = ["recipes", name]
    experiment = parse(name)
    if experiment is None:
        yield keys, f"a recipe is named method/dataset/ipcN, such as att/cifar10/ipc10, not {brief(name)}"
        return
    if not isinstance(entry, dict) or not isinstance(entry.get("values"), dict):
        yield keys, f"{name} holds no values; write `values:` with settings below it"
        return
    for key in entry.keys() - OF_A_RECIPE:
        yield [*keys, str(key)], f"{name}: unknown key {brief(key)}; there are: {', '.join(sorted(OF_A_RECIPE))}"
    if not isinstance(entry.get("title"), str):
        yield keys, f"{name} has no title; write `title:` with a line in words"
    yield from _published(name, entry.get("published"))
    own = list(_values(entry["values"], [*keys, "values"], sources))
    yield from own
    if own or shared is None:
        return  # the settings together are checked once each of them is right
    values = {key: Value(written[0], str(written[1])) for key, written in {**shared, **entry["values"]}.items()}
    recipe = Recipe(str(experiment), "", values, None)
    try:
        resolve(experiment.settings(), environ={}, recipe=recipe, ignore_params=True)
    except UserError as error:
        yield keys, f"{name}: {error}"


def _published(name: str, published: Any) -> Iterator[Mistake]:
    keys = ["recipes", name, "published"]
    if published is None:
        return
    if not isinstance(published, dict) or (missing := PUBLISHED - published.keys()):
        lacking = f" (it lacks {', '.join(sorted(missing))})" if isinstance(published, dict) else ""
        yield keys, f"{name}: write published as {{network: convnet, accuracy: 48.3, sd: 1.0, table: where}}{lacking}"
        return
    accuracy = published["accuracy"]
    if isinstance(accuracy, bool) or not isinstance(accuracy, (int, float)) or not 0 <= accuracy <= 100:
        yield keys, f"{name}: the published accuracy is in percent, from 0 to 100, not {brief(accuracy)}"
    if published["network"] not in registry.names("network"):
        yield keys, f"{name}: unknown network {brief(published['network'])}; see `attcli config network --describe`"


def _values(values: dict[str, Any], keys: list[str], sources: dict[str, Any]) -> Iterator[Mistake]:
    """The mistakes of single settings."""
    for setting, entry in values.items():
        at = [*keys, str(setting)]
        if what := _of_name(str(setting)):
            yield at, what
            continue
        if not isinstance(entry, list) or len(entry) not in (2, 3):
            yield at, f"{setting} has no source; {FORM}"
            continue
        value, source, *doubt = entry
        if source not in sources:
            near = get_close_matches(str(source), [str(name) for name in sources], n=1)
            remedy = f"did you mean {near[0]!r}?" if near else "add it to the section sources"
            yield at, f"{setting} names the source {brief(source)}, which is not in the section sources; {remedy}"
        if doubt and not isinstance(doubt[0], str):
            yield at, f"{setting}: say in words what could not be verified, not {brief(doubt[0])}"
        if what := _of_value(str(setting), value):
            yield at, what


def _of_name(setting: str) -> str | None:
    """What is wrong with the name of a setting in a recipe."""
    known = list(names())
    if setting not in known:
        return f"unknown setting {brief(setting)}; {messages.offer(setting, known)}"
    if setting in SELECTORS:
        return f"{setting} follows from the recipe's name; delete the line"
    if setting.partition(".")[0] not in CONTENT:
        return f"{setting} says where or how a run is executed, which is no part of a recipe; delete the line"
    return None


def _of_value(setting: str, value: Any) -> str | None:
    """What is wrong with a value by itself."""
    section, _, key = setting.partition(".")
    try:
        settings = Settings.model_validate({section: {key: value}} if key else {section: value})
    except ValidationError as error:
        return str(messages.explain(error, dict.fromkeys(names(), "default"), None))
    read = getattr(getattr(settings, section), key) if key else getattr(settings, section)
    if isinstance(value, bool) and not isinstance(read, bool):
        return str(messages.no_number(setting, value, {}, None))
    return None
