"""What the package needs is what it declares, and what it can do without is asked for in one line."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from attcli import registry
from attcli.errors import UserError, optional
from tests.conftest import Cli
from tests.dvc_deps import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "ruamel": "ruamel.yaml",
    "pydantic_core": "pydantic",
    "mlflow": "mlflow-skinny",
}
"""Modules that are called otherwise than their distribution."""


def declared(requirements: list[str]) -> set[str]:
    return {Requirement(text).name for text in requirements}


NEEDED = declared(PROJECT["dependencies"])
EXTRAS = {extra: declared(requirements) for extra, requirements in PROJECT["optional-dependencies"].items()}


def imports(path: Path) -> Iterator[str]:
    """The distributions of others that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for module in modules:
            first = module.partition(".")[0]
            if first not in sys.stdlib_module_names and first != "attcli":
                yield DISTRIBUTIONS.get(first, first)


FOR_OTHERS = "ddranking_score.py"
"""A script that is written beside an exported set, and runs where DD-Ranking is installed."""


def test_every_import_is_declared_and_every_declaration_imported() -> None:
    files = [path for path in (REPOSITORY / "attcli").rglob("*.py") if path.name != FOR_OTHERS]
    imported = {name for path in files for name in imports(path)}
    assert imported - NEEDED <= set().union(*EXTRAS.values())
    assert imported >= NEEDED


def test_extras_are_not_needed_and_their_packages_not_declared_twice() -> None:
    assert set(EXTRAS) == {"dvc", "plots", "hub", "hf", "timm", *registry.names("tracker")}
    assert not NEEDED & set().union(*EXTRAS.values())


def test_the_lock_has_what_the_repository_uses() -> None:
    locked = {
        line.split("==")[0] for line in (REPOSITORY / "requirements.lock").read_text().splitlines() if "==" in line
    }
    wanted = NEEDED | EXTRAS["dvc"] | EXTRAS["plots"] | EXTRAS["timm"]
    assert {name.replace(".", "-") for name in wanted} <= locked


def _without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_a_missing_package_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_matplotlib(monkeypatch)
    with pytest.raises(
        UserError, match=r"figures need the package matplotlib \(.*\); install it: pip install 'attcli\[plots\]'"
    ):
        optional("matplotlib.figure", "plots", "figures")


def test_diagnose_without_matplotlib_writes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_matplotlib(monkeypatch)
    cli.small("distill")
    output = cli("diagnose", code=2)
    assert "pip install 'attcli[plots]'" in output
    assert not Path("artifacts/diagnosis").exists()


def _described(folder: Path) -> Message:
    """The metadata of the package as hatchling builds it."""
    code = "import sys; from hatchling.build import prepare_metadata_for_build_wheel as make; print(make(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=REPOSITORY, check=True, capture_output=True)
    (metadata,) = folder.glob("attcli-*.dist-info/METADATA")
    return message_from_string(metadata.read_text(encoding="utf-8"))


def test_the_description_of_the_package_needs_no_file_beside_it(tmp_path: Path) -> None:
    metadata = _described(tmp_path)
    assert metadata["Description-Content-Type"] == "text/markdown"
    description = str(metadata.get_payload())
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    links = r"(!?)\[([^\]]+)\]\(([^)\s]+)\)"
    assert all(re.match("https?://", target) for _, _, target in re.findall(links, description))
    replaced = re.sub(links, lambda link: f"{link[1] and 'Picture: '}{link[2]} [`{link[3]}`]", readme)
    assert description.split("\n", 3)[3].strip() == replaced.split("\n", 1)[1].strip()
    named = re.findall(r"\[`([^`]+)`\]", description)
    assert len(named) > 20
    assert all((REPOSITORY / name).exists() for name in named)
    assert "docs/images/cifar10.png" in named


def test_the_image_has_the_files_that_the_package_is_built_from() -> None:
    copied = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    let_in = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        assert re.search(rf"^COPY .*\b{re.escape(name)}\b", copied, re.M)
        assert f"!{name}" in let_in
