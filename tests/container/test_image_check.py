"""The parts of `make image-check` that can be tried without an image: what is refused, passed on, and what fails."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from checks.image import buildah
from checks.image.buildah import CannotCheckError, Container, Storage
from checks.image.trials import FailedError, Trials


@pytest.fixture
def pip_config(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `pip config list` says, by name."""
    values: dict[str, str] = {}

    def run(words: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
        said = "".join(f"{name}={value!r}\n" for name, value in values.items())
        return subprocess.CompletedProcess(words, 0, said)

    monkeypatch.setattr(buildah.subprocess, "run", run)
    return values


def test_a_build_sees_the_registry_that_pip_is_configured_for(tmp_path: Path, pip_config: dict[str, str]) -> None:
    pip_config.update({"global.index-url": "https://registry.example/simple", ":env:.cert": "/etc/own-ca.crt"})
    pip_config.update({"global.extra-index-url": "file:///srv/wheels", "global.no-color": "true"})
    volumes = buildah.registry_files(tmp_path)
    assert volumes == {Path("/etc/own-ca.crt"): buildah.CERTIFICATES, tmp_path / "pip.conf": "/etc/pip.conf"}
    lines = (tmp_path / "pip.conf").read_text().splitlines()
    assert lines == ["[global]", "index-url = https://registry.example/simple", f"cert = {buildah.CERTIFICATES}"]


def test_without_a_configuration_of_pip_a_build_sees_none(tmp_path: Path, pip_config: dict[str, str]) -> None:
    assert buildah.registry_files(tmp_path) == {}


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buildah.os, "geteuid", lambda: 1000)
    with pytest.raises(CannotCheckError, match="needs root, for chroot; run it as root"):
        buildah.install("sh")


def test_what_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buildah.os, "geteuid", lambda: 0)
    monkeypatch.setattr(buildah.shutil, "which", lambda program: None)
    with pytest.raises(CannotCheckError, match="buildah missing, and no apt-get to install them; install buildah"):
        buildah.install("buildah")
    monkeypatch.setattr(buildah.shutil, "which", lambda program: "/usr/bin/apt-get" if program == "apt-get" else None)
    failed = subprocess.CompletedProcess([], 100, "", "first\nE: Unable to locate package buildah\n")
    monkeypatch.setattr(buildah.subprocess, "run", lambda words, **options: failed)
    with pytest.raises(CannotCheckError, match=r"apt-get could not install buildah \(E: Unable to locate .*\)"):
        buildah.install("buildah")


def test_a_build_that_fails_ends_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storage, "command", lambda self, *words: ["sh", "-c", "echo no such base >&2; exit 125"])
    with pytest.raises(CannotCheckError, match=r"the image could not be built \(no such base\); .*log tells more"):
        Storage(tmp_path, {}).build(tmp_path, {}, {}, tmp_path / "log")


class Here(Container):
    """Commands run here, in a shell, instead of in a container."""

    def command(self, words: Sequence[str], user: str, volumes: Mapping[Path, str], *, network: bool) -> list[str]:
        return list(words)


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(Here(Storage(tmp_path, {}), "none"), tmp_path, tmp_path)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_a_command_is_refused_by_one_line_and_exit_code_2(trials: Trials) -> None:
    refusal = "echo log >&2; echo 'attcli: it is full; make room' >&2; exit 2"
    assert trials.refused("it is full", shell(refusal), {}) == "attcli: it is full; make room"
    for other in (
        "exit 2",
        "echo 'attcli: something else' >&2; exit 2",
        "echo 'attcli: it is full'; echo 'attcli: it is full'; exit 2",
        "echo Traceback; echo 'attcli: it is full'; exit 2",
        "echo 'attcli: it is full'; exit 1",
    ):
        with pytest.raises(FailedError):
            trials.refused("it is full", shell(other), {})


def test_a_trial_that_fails_keeps_no_other_from_being_made(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        "first": lambda: trials.run(shell("echo all well")).strip(),
        "second": lambda: trials.run(shell("echo broken; exit 3")),
        "third": lambda: "done",
    }
    monkeypatch.setattr(Trials, "trials", lambda self: made)
    trials.run_all()
    assert [(entry["trial"], entry["passed"]) for entry in trials.results] == [
        ("first", True),
        ("second", False),
        ("third", True),
    ]
    assert trials.results[0]["said"] == "all well"
    assert "ended with 3 instead of 0: broken" in str(trials.results[1]["said"])
    trials.results.clear()
    trials.run_all(["third"])
    assert [entry["trial"] for entry in trials.results] == ["third"]
