"""What attcli says of the container that it is in, and of what is missing there: one line each, with its remedy."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from torchvision import datasets

from attcli import container
from attcli.data import sources
from attcli.errors import UserError
from attcli.options import Request
from attcli.store.files import writable
from tests.conftest import Cli


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project's own image, under a runtime that leaves no mark."""
    monkeypatch.setenv(container.OWN_MARK, "oci")


def mount(monkeypatch: pytest.MonkeyPatch, *points: Path) -> None:
    """These folders, and the root, are mount points."""
    monkeypatch.setattr(container, "mount_points", lambda: {Path("/"), *points})


def test_the_kind_of_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert container.kind() is None
    assert container.kind({container.OWN_MARK: "oci"}) == "a container"
    (tmp_path / "mark").touch()
    monkeypatch.setattr(container, "MARKS", {str(tmp_path / "mark"): "Docker"})
    assert container.kind({container.OWN_MARK: "oci"}) == "Docker"
    assert container.kind({container.OWN_MARK: "oci", "KUBERNETES_SERVICE_HOST": "here"}) == "Kubernetes"
    assert container.kind({"KUBERNETES_SERVICE_HOST": "here"}) is None  # somebody's own container


@pytest.mark.usefixtures("inside")
def test_what_is_below_a_mount_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(monkeypatch)
    assert container.vanishes(tmp_path)
    assert not container.vanishes(tmp_path, {container.OWN_MARK: "oci", "APPTAINER_CONTAINER": "image.sif"})
    assert not container.vanishes(tmp_path, {})
    mount(monkeypatch, tmp_path.parent)
    assert not container.vanishes(tmp_path)


def test_mount_points_are_those_that_the_system_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text(
        "100 90 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        "101 100 254:0 /home/me/results /work rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "102 100 0:5 / /with\\040blank rw - tmpfs tmpfs rw\n"
    )
    monkeypatch.setattr(container, "MOUNTS", listed)
    assert container.mount_points() == {Path("/"), Path("/work"), Path("/with blank")}
    monkeypatch.setattr(container, "MOUNTS", tmp_path / "none")
    assert container.mount_points() == set()


@pytest.mark.usefixtures("inside")
def test_a_run_says_what_it_takes_and_that_its_results_are_lost(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(monkeypatch)
    lines = cli.small_log("distill").splitlines()
    (takes,) = (line for line in lines if "this takes " in line)
    for part in (" of disk (", " of memory (", "about "):
        assert part in takes
    place = cli.folder / "artifacts"
    (lost,) = (line for line in lines if "WARNING" in line)
    assert f"results go to {place} in a container and are lost with it; to keep them: docker run -v" in lost
    assert f':{cli.folder}"' in lost
    first = next(i for i, line in enumerate(lines) if "prepared digits" in line)
    assert max(lines.index(takes), lines.index(lost)) < first, "it is said before any work"

    mount(monkeypatch, cli.folder)
    lines = cli.small_log("distill").splitlines()
    assert not [line for line in lines if "WARNING" in line or "this takes" in line], "all is done"
    assert any(f"results go to {place}, which is on a volume" in line for line in lines)


@pytest.mark.usefixtures("inside")
def test_results_outside_the_current_folder_need_a_volume_there(
    cli: Cli, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount(monkeypatch)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "results"
    assert f':{elsewhere}"' in cli.small_log("prepare", "--artifacts", str(elsewhere))


@pytest.mark.usefixtures("inside")
def test_a_volume_that_is_too_small_is_said_before_any_work(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attcli.stages.plan.shutil.disk_usage", lambda folder: SimpleNamespace(free=5e4))
    lines = cli.small_log("distill").splitlines()
    (takes,) = (line for line in lines if "MORE THAN the 50 kB that are free" in line)
    assert "WARNING" in takes
    assert lines.index(takes) < next(i for i, line in enumerate(lines) if "prepared digits" in line)


def test_outside_a_container_nothing_is_said_of_it(cli: Cli) -> None:
    log = cli.small_log("prepare")
    assert "this takes" not in log
    assert "results go to" not in log


def closed(monkeypatch: pytest.MonkeyPatch, *, read_only: bool) -> None:
    """Nothing can be written anywhere."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    flags = os.ST_RDONLY if read_only else 0
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=flags))


@pytest.mark.usefixtures("inside")
def test_a_folder_that_another_user_owns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, read_only=False)
    with pytest.raises(UserError) as refused:
        writable(tmp_path / "artifacts", "runtime.artifacts")
    assert f"{tmp_path} may not be written to by user {os.getuid()}; start the container with" in str(refused.value)
    assert '--user "$(id -u):$(id -g)", or choose another folder as runtime.artifacts' in str(refused.value)


@pytest.mark.usefixtures("inside")
def test_a_folder_that_is_mounted_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, read_only=True)
    with pytest.raises(UserError, match=r"is mounted read-only; start the container with -v .*, without :ro, or "):
        writable(tmp_path / "artifacts", "runtime.artifacts")


def test_outside_a_container_no_flags_of_docker_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed(monkeypatch, read_only=True)
    with pytest.raises(UserError, match=r"is mounted read-only; choose another folder as runtime\.artifacts$"):
        writable(tmp_path / "artifacts", "runtime.artifacts")


@pytest.mark.parametrize("within", [True, False])
def test_without_a_network_a_container_is_told_how_to_mount_cifar(
    within: bool, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if within:
        request.getfixturevalue("inside")

    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    with pytest.raises(UserError) as refused:
        sources.load(Request("cifar10", tmp_path / "data", None, 0, tmp_path))
    message = str(refused.value)
    assert "put its whole cifar-10-batches-py there or name its parent with --data-dir" in message
    mounting = f"in a container, mount that parent: docker run -v /its/parent:{tmp_path}/data:ro"
    assert (mounting in message) == within
