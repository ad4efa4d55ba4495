"""The job scripts are valid, and the page about Slurm shows what they do."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "deploy" / "slurm").glob("*.sbatch"))
PAGE = ROOT / "docs" / "running" / "slurm.md"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_job_script_is_valid(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_the_page_shows_the_scripts_lines() -> None:
    shown = [block for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S) if "#SBATCH" in block]
    assert shown
    for block in shown:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        lines = {line for line in block.splitlines() if line.startswith("#SBATCH")}
        assert lines <= {line for script in SCRIPTS for line in script.read_text().splitlines()}


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
