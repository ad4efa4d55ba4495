"""What the doctor says of machines that are made up, and of this one."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from attcli import container, runtime
from attcli.doctor import accelerator, examination, folders, machine, packages
from attcli.doctor.finding import Finding
from attcli.errors import UserError
from attcli.settings import Settings, resolve
from tests.conftest import Cli

Disk = namedtuple("Disk", "total used free")


def settings(**changes: object) -> Settings:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return resolve({"prepare.dataset": "digits", **named}, environ={}, ignore_params=True).settings


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Installed packages as the doctor sees them: those of this dictionary, beside what attcli declares here."""
    installed: dict[str, str] = {"torch": "2.15.0+cu132", "numpy": "2.4"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(packages, "version", version)
    declared = ["torch>=2.9", "numpy>=2.0,<3", 'dvc>=3.60; extra == "dvc"', 'tomli>=2; python_version < "3"']
    monkeypatch.setattr(packages, "requires", lambda name: declared)
    return installed


def test_packages_in_range_are_named(versions: dict[str, str]) -> None:
    finding = packages.required(settings())
    assert (finding.state, finding.says) == ("ok", "torch 2.15.0+cu132, numpy 2.4")


@pytest.mark.parametrize(
    ("numpy", "says"), [("1.26", "numpy is 1.26"), ("3.1", "numpy is 3.1"), (None, "numpy is missing")]
)
def test_a_package_out_of_range_is_a_problem(versions: dict[str, str], numpy: str | None, says: str) -> None:
    versions.update({"numpy": numpy} if numpy else {})
    if numpy is None:
        del versions["numpy"]
    finding = packages.required(settings())
    assert finding.state == "problem"
    assert finding.says == f"{says}, supported: <3,>=2.0"
    assert finding.remedy == "pip install --upgrade 'numpy<3,>=2.0'"


def test_extras_that_are_missing_are_named_with_their_remedy(
    versions: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return ["dvc"]

    monkeypatch.setattr(packages, "metadata", lambda name: Metadata())
    assert "pip install 'attcli[dvc]'" in packages.optional(settings()).says
    versions["dvc"] = "3.67.1"
    assert packages.optional(settings()).says == "installed: dvc"
    versions["dvc"] = "2.0"
    finding = packages.optional(settings())
    assert finding.state == "note"
    assert "dvc is 2.0, supported: >=3.60" in finding.says


def test_a_source_folder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "requires", missing)
    assert packages.required(settings()).state == "note"


def test_an_idle_gpu_is_told_where_torch_has_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(accelerator, "DRIVERS", ())
    monkeypatch.setattr(accelerator.shutil, "which", lambda name: None)
    assert accelerator.torch_build(settings()).state == "ok"
    monkeypatch.setattr(accelerator.shutil, "which", lambda name: f"/usr/bin/{name}")
    finding = accelerator.torch_build(settings())
    assert finding.state == "note"
    assert "stay idle" in finding.says


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_asked_for_and_missing_is_a_problem() -> None:
    finding = accelerator.device(settings(runtime__device="cuda:3"))
    assert finding.state == "problem"
    assert "'cuda:3' is not available here" in finding.says
    assert "ATTCLI_DEVICE=auto" in finding.remedy
    assert accelerator.precision(settings(runtime__device="cuda:3")).state == "note"  # one cause, one problem
    assert accelerator.device(settings()).state == "ok"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver by "
            "downloading and installing a new version",
            "The NVIDIA driver on your system is too old (found version 12040); this torch is for CUDA 13.2",
        ),
        (
            "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before? Error 802: system not "
            "yet initialized",
            "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before? Error 802: system not "
            "yet initialized; this torch is for CUDA 13.2",
        ),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, error: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as NVML answers, which the driver brings
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")

    def init() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch.cuda, "init", init)
    finding = accelerator.device(settings())
    assert finding.state == "note"
    assert f"there is a GPU, but torch can't use it ({reason})" in finding.says
    assert "update it" in finding.remedy
    with pytest.raises(UserError, match=re.escape(f"({reason})") + ".*; use --device cpu; or, where the driver"):
        runtime.device("cuda")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A GPU that answers questions, but whose computations fail."""
    monkeypatch.setattr(runtime, "device", lambda name: torch.device("cuda:0"))
    monkeypatch.setattr(runtime, "described", lambda name: "cuda:0 (Tesla K80)")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *of: (3, 7))
    return monkeypatch


def test_a_gpu_that_cannot_compute_is_a_problem(gpu: pytest.MonkeyPatch) -> None:
    def ones(*shape: int, device: torch.device) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    gpu.setattr(torch, "ones", ones)
    finding = accelerator.device(settings())
    assert finding.state == "problem"
    assert "no kernel image is available for execution on the device)" in finding.says
    assert "ATTCLI_DEVICE=cpu" in finding.remedy


@pytest.mark.parametrize(("free", "state"), [(20e9, "ok"), (2e9, "note")])
def test_the_memory_of_a_gpu(gpu: pytest.MonkeyPatch, free: float, state: str) -> None:
    on_cpu = torch.ones(8)
    gpu.setattr(torch, "ones", lambda *shape, device: on_cpu)
    gpu.setattr(torch.cuda, "mem_get_info", lambda device: (free, 24e9))
    gpu.setattr(torch.cuda, "device_count", lambda: 2)
    finding = accelerator.device(settings())
    assert finding.state == state
    assert f"{free / 1e9:.1f} of 24.0 GB free; 2 GPUs in all" in finding.says


def test_a_precision_that_the_device_lacks_is_a_note(gpu: pytest.MonkeyPatch) -> None:
    assert accelerator.precision(settings()).state == "ok"
    finding = accelerator.precision(settings(distill__precision="tf32"))
    assert finding.state == "note"
    assert "distill.precision is tf32" in finding.says
    gpu.setattr(torch.cuda, "get_device_capability", lambda *of: (9, 0))
    finding = accelerator.precision(settings(distill__precision="tf32"))
    assert (finding.state, finding.says) == ("ok", "float64, float32, tf32 and bfloat16")


@pytest.mark.parametrize(("flags", "state"), [("fpu sse avx2", "note"), ("fpu avx512_bf16", "ok")])
def test_bfloat16_of_a_cpu(flags: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(accelerator, "CPUINFO", tmp_path / "cpuinfo")
    cpu = {"runtime__device": "cpu"}
    assert accelerator.precision(settings(**cpu)).state == "ok"
    assert accelerator.precision(settings(buffer__precision="bfloat16", **cpu)).state == state


def test_a_missing_compiler_or_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "install g++" in machine.compiler(settings()).remedy
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    finding = machine.compiler(settings())
    assert finding.state == "note"
    assert "-dev" in finding.remedy
    (tmp_path / "Python.h").touch()
    assert machine.compiler(settings()).state == "ok"


@pytest.mark.parametrize(
    ("printed", "error", "code", "says"),
    [
        ("", "", 0, "compiled and correct"),
        ("execution compiled failed (InvalidCxxCompiler); going on without it", "", 0, "InvalidCxxCompiler"),
        ("", "Traceback:\nImportError: libtorch", 1, "ImportError: libtorch"),
        ("", "", -11, "exit code -11"),
    ],
)
def test_what_is_said_of_a_compilation(
    printed: str, error: str, code: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.CompletedProcess([], code, printed, error)
    monkeypatch.setattr(subprocess, "run", lambda *words, **options: done)
    finding = machine.compiled_step(settings())
    assert says in finding.says
    assert finding.state == ("note" if printed or code else "ok")
    assert bool(finding.remedy) == (finding.state == "note")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler here")
def test_a_step_is_compiled_and_a_broken_compiler_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.compiled_step(settings(runtime__device="cpu")).state == "ok"
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    finding = machine.compiled_step(settings(runtime__device="cpu"))
    assert finding.state == "note"
    assert "ATTCLI_EXECUTION=eager" in finding.remedy


def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(machine, "CPU_QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert machine.threads(settings()).state == "ok"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert machine.threads(settings()).remedy == "unset OMP_NUM_THREADS to use all 8 cores"
    monkeypatch.delenv("OMP_NUM_THREADS")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    finding = machine.threads(settings())
    assert "1.5 cores" in finding.says
    assert "OMP_NUM_THREADS=2" in finding.remedy
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.threads(settings(runtime__threads=9)).state == "note"


@pytest.mark.parametrize(
    ("limit", "free", "state", "says"),
    [
        (None, 20e9, "ok", "20.0 of"),
        ("max", 20e9, "ok", "20.0 of"),
        ("2000000000", 1e9, "note", "1.0 of 2.0 GB free, the limit of this container"),
        ("300000000", 9e9, "problem", "0.3 of 0.3 GB free, the limit of this container"),
    ],
)
def test_memory(
    limit: str | None, free: float, state: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "MEMORY_LIMITS", (tmp_path / "memory.max",))
    monkeypatch.setattr(runtime, "free_memory", lambda: free)
    finding = machine.memory(settings())
    assert finding.state == state
    assert finding.says.startswith(says)
    assert bool(finding.remedy) == (state != "ok")


@pytest.mark.parametrize(("free", "state"), [(1e11, "ok"), (1e9, "note"), (1e7, "problem")])
def test_disk(free: float, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(0, 0, free))
    assert folders.results(settings()).state == state


def test_a_folder_of_results_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = folders.results(settings(runtime__artifacts=str(tmp_path / "file" / "results")))
    assert finding.state == "problem"
    assert "is no folder; choose another folder as runtime.artifacts" in finding.says


def test_kept_work_that_the_results_do_not_use(cli: Cli) -> None:
    assert folders.kept_work(settings()).remedy == ""
    cli.small("prepare")
    assert folders.kept_work(settings()).remedy == ""
    Path("artifacts/dataset.h5").unlink()
    finding = folders.kept_work(settings())
    assert "in 1 folders, of which the results do not use" in finding.says
    assert "attcli work --prune --unused" in finding.remedy


def test_dvc_and_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folders.dvc(settings()).state == "ok"
    Path("dvc.yaml").write_text("stages: {}\n")
    assert "dvc init" in folders.dvc(settings()).remedy
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    cache = tmp_path / ".dvc" / "cache"
    cache.mkdir(exist_ok=True)
    (cache / "content").write_bytes(bytes(2000))
    finding = folders.dvc(settings())
    assert finding.state == "ok"
    assert f"cache {cache}: 2.0 kB" in finding.says

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(folders, "version", missing)
    assert folders.dvc(settings()).remedy == "pip install 'attcli[dvc]'"


def test_results_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MARKS", {str(tmp_path / "mark"): "Docker"})
    inside = settings(runtime__artifacts=str(tmp_path / "results"))
    assert folders.container(inside).says == "not in attcli's image"
    (tmp_path / "mark").touch()
    monkeypatch.setenv(container.OWN_MARK, "oci")
    monkeypatch.setattr(container, "mount_points", lambda: {Path("/")})
    assert folders.container(inside).state == "note"
    monkeypatch.setattr(container, "mount_points", lambda: {Path("/"), tmp_path})
    assert folders.container(inside).state == "ok"


def test_a_check_that_fails_is_a_finding_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> Finding:
        raise OSError("no such device\nsecond line")

    checks = {"first": broken, "second": machine.memory}
    monkeypatch.setattr(examination, "checks", lambda compiling: checks)
    first, second = examination.examine(settings())
    assert first == Finding("first", "note", "this could not be found out (OSError: no such device)")
    assert second.check == "memory"


def test_the_command_and_its_exit_codes(cli: Cli) -> None:
    report = json.loads(cli("doctor", "--quick", "--json", "--device", "cpu"))
    assert report["problems"] == 0
    assert [entry["check"] for entry in report["checks"]] == ["settings", *examination.checks(compiling=False)]
    Path("params.yaml").write_text("distill: {ipc: none}\n")
    output = cli("doctor", "--quick", "--device", "cpu", code=2)
    assert "1 problem, " in output
    assert "distill.ipc: input should be a whole number, not 'none'" in " ".join(output.split())
    assert "memory" in output  # the rest is examined all the same
