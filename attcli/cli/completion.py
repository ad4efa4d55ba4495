"""What the shell offers when Tab is pressed. Free of torch, as it has to answer at once."""

from collections.abc import Callable, Iterable

from attcli.errors import UserError

Complete = Callable[[str], list[str]]

KEPT = ("prepare", "difficulty", "buffer", "distill", "evaluate", "baselines")
"""The stages, and their parts, that have work folders of their own."""


def _beginning(incomplete: str, names: Callable[[], Iterable[str]]) -> list[str]:
    """The names that begin like this; none where they can't be had, as nothing can be said while a line is typed."""
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except UserError:
        return []


def _last_part(incomplete: str, separator: str, names: Callable[[], Iterable[str]]) -> list[str]:
    """The names that the last part of `a,b` or `a+b` may become, behind the parts before it."""
    before, mark, last = incomplete.rpartition(separator)
    return [f"{before}{mark}{name}" for name in _beginning(last, names)]


def _choices(kind: str) -> Callable[[], Iterable[str]]:
    def names() -> Iterable[str]:
        from attcli import registry

        return registry.names(kind)

    return names


def datasets(incomplete: str) -> list[str]:
    """Datasets."""
    return _beginning(incomplete, _choices("dataset"))


def methods(incomplete: str) -> list[str]:
    """Methods, also behind a `+`."""
    return _last_part(incomplete, "+", _choices("method"))


def networks(incomplete: str) -> list[str]:
    """Networks, also behind a comma."""
    return _last_part(incomplete, ",", _choices("network"))


def baselines(incomplete: str) -> list[str]:
    """Baselines, also behind a comma; or none."""
    return _last_part(incomplete, ",", lambda: [*_choices("baseline")(), "none"])


def formats(incomplete: str) -> list[str]:
    """Forms of other programs."""
    return _beginning(incomplete, _choices("format"))


def recipes(incomplete: str) -> list[str]:
    """Names of recipes."""

    def names() -> Iterable[str]:
        from attcli.settings.recipes import all_recipes

        return all_recipes()

    return _beginning(incomplete, names)


def settings(incomplete: str) -> list[str]:
    """Names of settings, with the `=` that follows them."""

    def names() -> Iterable[str]:
        from attcli.settings.layers import names

        return [f"{name}=" for name in names()]

    return _beginning(incomplete, names)


def sections(incomplete: str) -> list[str]:
    """Sections of the settings."""

    def names() -> Iterable[str]:
        from attcli.settings.layers import names

        return dict.fromkeys(name.partition(".")[0] for name in names())

    return _beginning(incomplete, names)


def devices(incomplete: str) -> list[str]:
    """Kinds of devices."""
    return _beginning(incomplete, lambda: ("auto", "cpu", "cuda"))


def stages(incomplete: str) -> list[str]:
    """What work is kept of."""
    return _beginning(incomplete, lambda: KEPT)
