"""Headers and arrays of sets that are not pixels: whatever they say, it is one line, and no memory is spent on it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attcli
from attcli import runtime
from attcli.errors import UserError
from attcli.stages import pipeline
from attcli.stages.run import Run
from attcli.store import artefact, hdf5, states, synthetic
from tests.conftest import settings_in

CODED = {"distill__iterations": 1, "distill__frequencies": 16, "distill__labels": "learned"}
SETS = {
    "multiformation": {"distill__parameterisation": "multiformation", "distill__storage": "uint8"},
    "frequency": {"distill__parameterisation": "frequency", "distill__storage": "codes", "distill__code_groups": 8},
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of two sets that stand alone."""
    folder, files = tmp_path_factory.mktemp("coded"), {}
    for name, choice in SETS.items():
        labels = {"distill__label_storage": "uint8"}
        run = Run(settings_in(folder, runtime__artifacts=str(folder / name), **CODED, **labels, **choice))
        pipeline.distill(run)
        files[name] = run.synthetic
    return files


def rewritten(source: Path, target: Path, about: Callable[[Any], None], arrays: Callable[[Any], None]) -> Path:
    """The set in a file with another header and other arrays, sealed as if attcli had written it."""
    header, kept = artefact.read(source, synthetic.KIND, synthetic.MAKER)
    facts, parts = json.loads(json.dumps(header.about)), dict(kept)
    about(facts)
    arrays(parts)
    artefact.write(
        target, artefact.Header(header.kind, header.fingerprint, header.settings, facts, header.versions), parts
    )
    return target


def nothing(_: Any) -> None:
    """Leave it."""


def option(kind: str, name: str, value: object) -> Callable[[Any], None]:
    """Set an option in the header."""

    def change(about: Any) -> None:
        about["coding"][kind][name] = value

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("multiformation", option("parameterisation", "factor", 0)),
        ("multiformation", option("parameterisation", "factor", "two")),
        ("multiformation", option("parameterisation", "factor", 3)),
        ("multiformation", option("parameterisation", "colour", 3)),
        ("multiformation", option("storage", "scales_every", -1)),
        ("multiformation", option("labels", "name", "codes")),
        ("frequency", option("storage", "code_patch", 0)),
        ("frequency", option("storage", "code_bits", 40)),
        ("frequency", option("storage", "code_bits", 3)),
        ("frequency", option("storage", "code_groups", 10**9)),
        ("frequency", option("storage", "code_groups", 1)),
        ("frequency", option("storage", "code_groups", 0)),
        ("frequency", option("parameterisation", "frequencies", 15)),
        ("frequency", option("parameterisation", "frequencies", 65)),
        ("frequency", option("parameterisation", "name", "pixels")),
        ("frequency", lambda about: about.update(images_per_class=about["images_per_class"] + 1)),
        ("frequency", lambda about: about.update(images_per_class=10**7)),
        ("frequency", lambda about: about.update(resolution=4096)),
    ],
)
def test_an_impossible_header_is_one_line(
    sets: dict[str, Path], tmp_path: Path, name: str, change: Callable[[Any], None]
) -> None:
    with pytest.raises(UserError) as refused:
        attcli.load(rewritten(sets[name], tmp_path / "synthetic.h5", change, nothing))
    assert "\n" not in str(refused.value)


def test_options_that_a_file_does_not_name_have_their_defaults(sets: dict[str, Path], tmp_path: Path) -> None:
    def forget(about: Any) -> None:
        del about["coding"]["parameterisation"]["factor"]

    loaded = attcli.load(rewritten(sets["multiformation"], tmp_path / "synthetic.h5", forget, nothing))
    assert loaded.size == attcli.load(sets["multiformation"]).size


def test_every_array_is_checked(sets: dict[str, Path], tmp_path: Path) -> None:
    for name, file in sets.items():
        for path in artefact.read(file, synthetic.KIND, synthetic.MAKER)[1]:
            if path.startswith("normaliser") or path == "lr":
                continue

            def shortened(arrays: Any, path: str = path) -> None:
                arrays[path] = arrays[path][:-1]

            def typed(arrays: Any, path: str = path) -> None:
                arrays[path] = arrays[path].astype(np.float64)

            def emptied(arrays: Any, path: str = path) -> None:
                arrays[path] = arrays[path][:0]

            def scalar(arrays: Any, path: str = path) -> None:
                arrays[path] = np.zeros((), arrays[path].dtype)

            for change in (shortened, typed, emptied, scalar):
                with pytest.raises(UserError, match="damaged"):
                    attcli.load(rewritten(file, tmp_path / f"{name}.h5", nothing, change))


def test_a_set_that_memory_cannot_hold_is_refused_with_the_figures(
    sets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "free_memory", lambda: 10_000)
    monkeypatch.setattr(states, "SMALL", 10_000)
    with pytest.raises(UserError, match=r"says that it holds .* images, which take .* GB of memory"):
        attcli.load(sets["frequency"])


def test_a_damaged_neighbour_does_not_spoil_a_set(sets: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "synthetic.h5"
    file.write_bytes(sets["multiformation"].read_bytes())
    (tmp_path / "normaliser.h5").write_bytes(b"no HDF5 at all")
    (tmp_path / "dataset.h5").write_bytes(b"nor this")
    assert attcli.load(file).normaliser is not None
    assert hdf5.sealed(file)


@pytest.mark.parametrize(
    "protocol", [{"protocol": "none such"}, {"protocol": {}}, {"augment": "none such"}, {"augment": ""}]
)
def test_a_protocol_that_there_is_not_is_one_line(
    sets: dict[str, Path], tmp_path: Path, protocol: dict[str, object]
) -> None:
    def change(about: Any) -> None:
        about["protocol"] |= protocol

    with pytest.raises(UserError) as refused:
        attcli.load(rewritten(sets["multiformation"], tmp_path / "synthetic.h5", change, nothing))
    assert "\n" not in str(refused.value)
    assert "protocol" in str(refused.value)


@pytest.mark.parametrize("prepare", [{"validation": "x"}, {"limit_per_class": -1}, []])
def test_a_set_that_asks_for_images_that_there_are_not_is_one_line(
    sets: dict[str, Path], tmp_path: Path, prepare: object
) -> None:
    def change(about: Any) -> None:
        about["prepare"] = prepare

    path = rewritten(sets["multiformation"], tmp_path / "synthetic.h5", change, nothing)
    run = Run(settings_in(sets["multiformation"].parents[1]))
    with pytest.raises(UserError) as refused:
        pipeline.evaluate(run, path)
    assert "\n" not in str(refused.value)
