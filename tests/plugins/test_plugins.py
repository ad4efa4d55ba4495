"""Choices of other packages, and choices that one new file adds to this one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).with_name("example")
PACKAGE = Path(__file__).parents[2] / "attcli"
TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "extending.md"
SMALL = {
    "prepare.normalise": "standardise",
    "buffer.batch": 20,
    "buffer.experts": 1,
    "buffer.augment": "flip",
    "distill.augment": "flip",
    "distill.iterations": 2,
    "distill.syn_steps": 3,
    "distill.expert_epochs": 1,
    "distill.max_start_epoch": 1,
    "evaluate.epochs": 3,
    "evaluate.repeats": 1,
    "evaluate.random_lrs": [0.01],
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example package is installed, from its pyproject, without network."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(EXAMPLE, source)
    install(source, target)
    return target


def install(source: Path, target: Path) -> None:
    """Install a package from its folder, without network."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True)


def attcli(folder: Path, *paths: Path, words: list[str], sets: dict[str, object], code: int = 0) -> str:
    """The command line in a process of its own, with further folders to import from."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "ATTCLI_THREADS": "1"}
    options = [word for name, value in sets.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    result = subprocess.run(
        [sys.executable, "-m", "attcli", *words, *options],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stderr
    return result.stdout if code == 0 else result.stderr


def test_the_package_of_the_tutorial_can_be_installed_and_used(tmp_path: Path) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    for name, content in re.findall(r'```\w+ title="([^"]+)"\n(.*?)```', text, re.S):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    package = tmp_path / "mynets"
    (package / "mynets" / "__init__.py").touch()
    with (package / "pyproject.toml").open("a") as project:
        project.writelines(re.findall(r"```toml\n(.*?)```", text, re.S))
    install(package, tmp_path / "site")
    labels = np.arange(120) % 2
    (tmp_path / "data").mkdir()
    images = np.random.default_rng(0).integers(0, 60, (120, 1, 8, 8)) + 150 * labels[:, None, None, None]
    np.savez(tmp_path / "data" / "dots.npz", images=images.astype(np.uint8), labels=labels)
    chosen = {"prepare.dataset": "dots", "network.arch": "tiny", "network.hidden": 5, "distill.method": "att+flat"}
    sets = {**SMALL, **chosen, "evaluate.archs": "tiny"}
    paths = (tmp_path / "site", PACKAGE.parent)
    report = json.loads(attcli(tmp_path, *paths, words=["evaluate", "--json"], sets=sets))
    assert report["set"]["classes"] == ["dark", "light"]
    listed = json.loads(attcli(tmp_path, *paths, words=["config", "--json"], sets=sets))
    assert listed["buffer.trainer"] == {"value": "ftd", "from": "method att+flat"}


def test_a_run_of_choices_from_another_package(installed: Path, tmp_path: Path) -> None:
    chosen = {
        "prepare.dataset": "stripes",
        "network.arch": "tiny",
        "network.hidden": 5,
        "distill.method": "halfway",
        "buffer.gain": 1.2,
        "distill.objective": "doubled",
        "distill.parameterisation": "scaled",
        "distill.unit": 2.0,
        "distill.storage": "rounded",
        "evaluate.archs": "tiny",
        "evaluate.baselines": "earliest",
    }
    sets = {**SMALL, **chosen}
    report = json.loads(attcli(tmp_path, installed, PACKAGE.parent, words=["evaluate", "--json"], sets=sets))
    assert list(report["scores"]["tiny"]) == ["synthetic", "ema", "earliest"]
    assert 0 <= report["scores"]["tiny"]["synthetic"]["mean"] <= 100
    assert report["set"]["network"] == {"arch": "tiny", "hidden": 5}
    about = json.loads(
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import h5py, sys; print(h5py.File(sys.argv[1]).attrs['about'])",
                str(tmp_path / "artifacts" / "synthetic.h5"),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert about["coding"] == {"parameterisation": {"name": "scaled", "unit": 2.0}, "storage": {"name": "rounded"}}
    other = attcli(
        tmp_path, installed, PACKAGE.parent, words=["distill"], sets={**sets, "distill.syn_steps": 4}, code=2
    )
    assert "distill.syn_steps is 3 there, 4 asked for" in other, "what an objective does not name it may read"
    listed = attcli(tmp_path, installed, PACKAGE.parent, words=["config"], sets=sets)
    assert "buffer.gain" in listed
    told = attcli(tmp_path, installed, PACKAGE.parent, words=["config"], sets={"network.hidden": 0}, code=2)
    assert "network.hidden: input should be greater than or equal to 1" in told


def test_a_broken_package_is_named_when_it_is_asked_for(installed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(installed, broken)
    (broken / "attcli_example" / "tiny.py").write_text("import nothing_of_that_name\n")
    work = tmp_path / "work"
    work.mkdir()
    attcli(work, broken, PACKAGE.parent, words=["config"], sets={})
    told = attcli(work, broken, PACKAGE.parent, words=["config"], sets={"network.arch": "tiny"}, code=2)
    assert "network 'tiny' of package attcli-example cannot be imported (No module named" in told


def test_a_name_that_is_taken_is_refused(installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    (points,) = site.glob("*.dist-info/entry_points.txt")
    points.write_text(points.read_text().replace("tiny =", "convnet ="))
    told = attcli(tmp_path, site, PACKAGE.parent, words=["config"], sets={}, code=2)
    assert "package attcli-example offers a network 'convnet', a name that is taken" in told


NEW_FILES = {
    "networks/tiny.py": ("tiny.py", {"network.arch": "tiny", "evaluate.archs": "tiny"}),
    "methods/swift.py": ('METHOD = __import__("attcli.methods.att").methods.att.METHOD\n', {"distill.method": "swift"}),
    "baselines/ear_liest.py": ("earliest.py", {"evaluate.baselines": "ear-liest"}),
    "parameterisations/scaled.py": ("scaled.py", {"distill.parameterisation": "scaled", "distill.unit": 3.0}),
}


@pytest.mark.parametrize("new", NEW_FILES)
def test_one_new_file_adds_a_choice(new: str, tmp_path: Path) -> None:
    content, chosen = NEW_FILES[new]
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy / "attcli", ignore=shutil.ignore_patterns("__pycache__"))
    before = {path: path.read_bytes() for path in copy.rglob("*.py")}
    text = (EXAMPLE / "attcli_example" / content).read_text() if content.endswith(".py") else content
    (copy / "attcli" / new).write_text(text)
    after = {path: path.read_bytes() for path in copy.rglob("*.py")}
    touched = [path for path in after if after[path] != before.get(path)]
    assert [str(path.relative_to(copy / "attcli")) for path in touched] == [new]
    sets = {**SMALL, "prepare.dataset": "digits", "network.width": 4, "network.depth": 2, **chosen}
    work = tmp_path / "work"
    work.mkdir()
    report = json.loads(attcli(work, copy, words=["evaluate", "--json"], sets=sets))
    assert report["scores"]
