"""What the project depends on: vulnerabilities, licences, and a wheel that is the same whoever builds it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checks import audit, licences, tools
from tests.dvc_deps import REPOSITORY


def package(name: str, *ids: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": i, "fix_versions": ["1.1"], **more} for i in ids]}


def test_an_open_vulnerability_fails_and_names_the_version_that_mends_it() -> None:
    code, lines = audit.verdict([{"dependencies": [package("torch"), package("pillow", "PYSEC-1")]}])
    assert code == 1
    assert lines[0] == "audit: pillow 1.0 has PYSEC-1 (mended in 1.1)"
    assert lines[1] == "audit: 2 packages compared, 1 open vulnerabilities"


def test_an_accepted_vulnerability_passes_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "CVE-7", "no such input is read")
    code, lines = audit.verdict([{"dependencies": [package("pillow", "PYSEC-1", aliases=["CVE-7"])]}])
    assert code == 0
    assert "PYSEC-1 (accepted: no such input is read)" in lines[0]


def test_a_registry_without_vulnerabilities_is_no_clean_bill() -> None:
    skipped = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
    code, lines = audit.verdict([{"dependencies": [skipped]}, {"dependencies": [skipped]}])
    assert (code, len(lines)) == (0, 1)
    assert "nothing was compared" in lines[0]
    code, lines = audit.verdict([{"dependencies": [skipped, package("numpy")]}])
    assert (code, lines) == (
        0,
        ["audit: 1 packages compared, 0 open vulnerabilities; not known to the registry: torch"],
    )


def test_without_a_network_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"nothing==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    def create(folder: Path, **options: object) -> None:
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)

    monkeypatch.setattr(tools.venv, "create", create)
    monkeypatch.setattr(audit, "program", lambda name: tools.program(name, tmp_path / "tools", lock))
    assert audit.main() == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{audit.NOTHING}: no registry is reached for requirements.lock (")


def test_what_one_lock_has_is_told_where_another_cannot_be_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(lock: Path) -> dict[str, Any]:
        if lock.name != audit.LOCKS[0]:
            raise tools.NoRegistryError("no answer within 900 s")
        return {"dependencies": [package("pillow", "PYSEC-1")]}

    monkeypatch.setattr(audit, "ask", ask)
    assert audit.main() == 1
    said = capsys.readouterr().out
    assert "pillow" in said
    assert "not compared: requirements-tools.lock (no answer within 900 s)" in said


def test_a_package_with_another_hash_is_no_missing_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1 --hash=sha256:0")
    monkeypatch.setattr(tools.venv, "create", lambda folder, **options: folder.mkdir())
    failed = SimpleNamespace(returncode=1, stderr="THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE")
    monkeypatch.setattr(tools.subprocess, "run", lambda *words, **options: failed)
    with pytest.raises(SystemExit, match="has not the hash that is locked"):
        tools.program("pip-audit", tmp_path / "tools", lock)


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("MIT", True),
        ("ISC License (ISCL)", True),
        ("Apache Software License; BSD License", True),
        ("BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0", True),
        ("Apache-2.0 OR GPL-2.0-or-later", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("GPL-3.0 AND (Apache-2.0 OR MIT)", False),
        ("MIT AND GPL-3.0-only", False),
        ("MIT; GNU General Public License v3 (GPLv3)", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_which_licences_are_expected(licence: str, expected: bool) -> None:
    assert licences.is_expected(licence) == expected
    found = licences.unexpected([{"Name": "some-package", "License": licence}])
    assert found == ([] if expected else [f"some-package: {licence}"])


def test_the_page_of_licences_lists_the_packages_of_the_image() -> None:
    rows = re.findall(r"^\| ([\w.-]+) \| ([\w.+-]+) \| (.*) \|$", licences.PAGE.read_text(), re.M)[1:]
    pins = set(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", licences.LOCK.read_text(), re.M))  # some for each Python
    listed = {(re.sub(r"[._-]+", "-", name).lower(), version.partition("+")[0]) for name, version, _ in rows}
    assert len(rows) > 100
    assert listed - pins == set(), "run `make licences`"
    elsewhere = {name for name, _ in pins} - {name for name, _ in listed}
    lines = licences.LOCK.read_text().splitlines()
    for name in elsewhere:  # packages of other systems
        of_others = [" ; " in line for line in lines if line.startswith(f"{name}==")]
        assert all(of_others), f"{name} is missing; run `make licences`"


def built(folder: Path, source: Path, time: float) -> str:
    """The SHA-256 of a wheel that is built from a copy of the project in `source`, changed at `time`."""
    source.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    shutil.copytree(REPOSITORY / "attcli", source / "attcli", ignore=shutil.ignore_patterns("__pycache__"))
    for path in source.rglob("*"):
        os.utime(path, (time, time))
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1577836800"}
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, env=environment)
    (wheel,) = folder.glob("*.whl")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_is_the_same_from_any_folder_at_any_time(tmp_path: Path) -> None:
    first = built(tmp_path / "a", tmp_path / "source", 1e9)
    assert built(tmp_path / "b", tmp_path / "another-name", 1.5e9) == first
