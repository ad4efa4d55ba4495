"""What `config --diff` compares the settings with: the defaults, a recipe, a params file, or results."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attcli.cli.bare import Command
from attcli.errors import UserError, brief

if TYPE_CHECKING:
    from attcli.settings import Resolved
    from attcli.settings.comparison import Side, Sides

FLAG, DEFAULTS, RECIPE = "--diff", "defaults", "recipe"
NOT_READ = "nothing reads it"


class DiffWithDefaults(Command):
    """`--diff` without a word behind it compares with the defaults."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word for the defaults behind a `--diff` that nothing, or another flag, follows."""
        parsed = []
        for position, word in enumerate(args):
            parsed.append(word)
            if word == FLAG and (args[position + 1 :] or ["-"])[0].startswith("-"):
                parsed.append(DEFAULTS)
        return super().parse_args(ctx, parsed)


def difference(resolved: "Resolved", other: str) -> tuple["Sides", str]:
    """The settings in which `resolved` and the other ones differ, and what the other ones are in words.

    other: `defaults`, `recipe` (the one that the settings rest on), a recipe's name, a params file, a folder of results
    or a set's file. UserError where it is none of these.
    """
    from attcli.settings.comparison import differing, sides_of

    theirs, title = _others(resolved, other)
    if theirs is None:
        return _beside_results(resolved, Path(other)), other
    return differing(sides_of(resolved), theirs), title


def _others(resolved: "Resolved", other: str) -> tuple["dict[str, Side] | None", str]:
    """The other settings, and what they are; None in their place for results, whose files say but a part of them."""
    from attcli.settings import Settings, resolve
    from attcli.settings.comparison import Side, of_recipe, sides_of
    from attcli.settings.layers import values_of
    from attcli.settings.recipes import parse

    path = Path(other)
    if other == DEFAULTS:
        return {name: Side(value, "default") for name, value in values_of(Settings()).items()}, "the defaults"
    if other == RECIPE or (parse(other) and not path.exists()):
        of_it = of_recipe(resolved.recipe if other == RECIPE else other)
        return sides_of(of_it), f"recipe {of_it.recipe}"
    if path.is_dir() or path.suffix == ".h5":
        return None, other
    if path.is_file():
        return sides_of(resolve({}, params=path, environ={})), other
    raise UserError(
        f"{FLAG} {brief(other)}: there is no such recipe, file or folder; write nothing, `{RECIPE}`, a recipe's name "
        "(see `attcli recipes`), a params file, or a folder of results"
    )


def _beside_results(resolved: "Resolved", path: Path) -> "Sides":
    from attcli.settings.comparison import Side, differing
    from attcli.stages.settings_of_results import compared

    asked, kept = compared(path, resolved.settings)
    names = list(dict.fromkeys([*asked, *kept]))
    ours = {name: Side(asked[name], resolved.origin[name]) if name in asked else Side(None, NOT_READ) for name in names}
    theirs = {name: Side(kept[name], "results") if name in kept else Side(None, NOT_READ) for name in names}
    return differing(ours, theirs)
