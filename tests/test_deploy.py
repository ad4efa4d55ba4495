"""The job scripts are valid, and the page about Slurm shows what they do."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "deploy" / "slurm").glob("*.sbatch"))
PAGE = ROOT / "docs" / "running" / "slurm.md"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_job_script_is_valid(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_the_page_names_the_scripts() -> None:
    page = PAGE.read_text()
    assert all(f"deploy/slurm/{script.name}" in page for script in SCRIPTS)
    lines = {line for script in SCRIPTS for line in script.read_text().splitlines()}
    quoted = re.findall(r"`(#SBATCH [^`]*)`", page)
    assert quoted
    assert {*quoted} <= lines


@pytest.mark.parametrize(("signalled", "wanted"), [(None, 7), ("USR1", 75)])
def test_a_job_passes_signals_and_the_exit_code_on(tmp_path: Path, signalled: str | None, wanted: int) -> None:
    """The script for one process, with stand-ins for `attcli` and `scontrol`."""
    bash = shutil.which("bash")
    assert bash is not None
    waits = "trap 'sleep 0.2; exit 75' USR1\ntouch begun\nwhile :; do sleep 0.05; done"
    for name, does in {"attcli": waits if signalled else "exit 7", "scontrol": 'echo "$@" > requeued'}.items():
        (tmp_path / name).write_text(f"#!{bash}\n{does}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "5", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = ROOT / "deploy" / "slurm" / "one.sbatch"
    job = subprocess.Popen([bash, script, "distill"], env=variables, cwd=tmp_path)
    if signalled:
        while not (tmp_path / "begun").exists():
            assert job.poll() is None
        subprocess.run(["kill", f"-{signalled}", str(job.pid)], check=True)
    assert job.wait(timeout=60) == wanted
    assert (tmp_path / "requeued").exists() == (wanted == 75)


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_of_several_processes_is_queued_again_unless_it_is_cancelled(tmp_path: Path, cancelled: bool) -> None:
    """The script for several, with stand-ins for `attcli`, `scontrol` and `srun`, which starts two processes."""
    bash = shutil.which("bash")
    assert bash is not None
    starts = """shift
    for rank in 0 1; do
        SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & started="$started $!"
    done
    trap 'kill -USR1 $started' USR1
    touch ready
    for process in $started; do
        wait $process
        while kill -0 $process 2>/dev/null; do wait $process; done
    done"""
    waits = """trap 'exit 75' USR1
    echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT" > "of-$RANK"
    while :; do sleep 0.05; done"""
    tells = 'if [ "$1" = show ]; then echo first; else echo "$@" > requeued; fi'
    for name, does in {"attcli": waits, "scontrol": tells, "srun": starts}.items():
        (tmp_path / name).write_text(f"#!{bash}\n{does}\n")
        (tmp_path / name).chmod(0o755)
    variables = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "5", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "x"}
    variables |= {"SLURM_NTASKS_PER_NODE": "2", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    script = ROOT / "deploy" / "slurm" / "several.sbatch"
    job = subprocess.Popen([bash, script, "distill"], env=variables, cwd=tmp_path)
    while not all((tmp_path / name).exists() for name in ("of-0", "of-1", "ready")):
        assert job.poll() is None
    if cancelled:
        job.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    (group,) = _below(job.pid, "srun")
    os.kill(group, signal.SIGUSR1)  # as Slurm signals the step
    assert job.wait(timeout=60) == 75
    assert (tmp_path / "of-1").read_text().split() == ["1", "2", "1", "2", "first", "20005"]
    assert (tmp_path / "requeued").exists() != cancelled
    assert not list(tmp_path.glob(".attcli-*"))


def _below(pid: int, name: str) -> list[int]:
    """The processes that a process has started whose command line names a program."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if f"/{name}".encode() in Path(f"/proc/{child}/cmdline").read_bytes()]
