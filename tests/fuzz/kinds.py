"""All kinds of cases, by name: where they are drawn from, what is done with each, and how many are run by default."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import artefacts, importers, settings
from tests.fuzz.bases import Bases


@dataclass(frozen=True)
class Kind:
    """A kind of cases. `cases` is how many of them a whole run has."""

    drawn: Any
    act: Callable[[Any, Path, Bases], None]
    cases: int


def all_kinds(bases: Bases) -> dict[str, Kind]:
    """The kinds for changes of these files."""
    files, others = artefacts.Drawn(bases), importers.Drawn(bases)
    return {
        "settings on the command line": Kind(settings.assignments, settings.on_the_command_line, 2000),
        "settings of a plan": Kind(settings.planned, settings.in_a_plan, 500),
        "params files": Kind(settings.params, settings.in_a_file, 2000),
        "environment variables": Kind(settings.variables, settings.in_the_environment, 500),
        "headers of artefacts": Kind(files.headers, artefacts.of_headers, 1200),
        "arrays of artefacts": Kind(files.arrays, artefacts.of_arrays, 800),
        "bytes of artefacts": Kind(files.files, artefacts.of_files, 1000),
        "sets of released codes": Kind(others.released, importers.of_released_sets, 600),
        "experts of released codes": Kind(others.experts, importers.of_experts, 600),
        "attcli import": Kind(others.imports, importers.through_import, 400),
        "safetensors": Kind(others.safetensors, importers.of_safetensors, 600),
        "folders of pictures": Kind(others.png, importers.of_pictures, 500),
        "names and addresses": Kind(importers.names, importers.of_names, 500),
    }
