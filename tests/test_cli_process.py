"""The command as a process: interrupted while it begins, and with standard streams that are closed."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attcli.stages.interrupt import WAITING
from tests.conftest import SMALL
from tests.data.pictures import classes

SETS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]

INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == interrupted:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100):  # the handler runs between two operations of Python
                pass

interrupted = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupts())
from attcli.cli import main
main()
"""


@pytest.mark.parametrize(
    "module", ["typer", "attcli.cli.stages", "pydantic", "attcli.registry", "loguru", "torch", "attcli.store.artefact"]
)
def test_an_interrupted_import_ends_the_command(module: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED_IMPORT, module, "distill", *SETS]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr.splitlines()[-1:]) == (130, "", ["attcli: interrupted"])
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["export", "--to", "png", "--out", ""], "the argument after --out is empty"),
        (["distill", "--dataset", "digits", "--artifacts="], "--artifacts has an empty value"),
        (["evaluate", ""], "the argument after evaluate is empty"),
        ([""], "the first argument is empty"),
    ],
)
def test_an_empty_argument_is_no_folder(words: list[str], what: str, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "attcli", *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"attcli: {what}; is a variable of the shell not set? Give it a value, or leave it out\n"
    assert not [*tmp_path.iterdir()]


EARLY = [(signal.SIGINT, delay) for delay in (0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1.6)]
EARLY += [(signal.SIGTERM, delay) for delay in (0.05, 0.4, 1.6)] + [(signal.SIGUSR1, 0.4)]


@pytest.mark.parametrize(("number", "delay"), EARLY)
def test_an_early_interruption_shows_no_traceback(number: signal.Signals, delay: float, tmp_path: Path) -> None:
    handled = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # a shell may let it be ignored
    code = f"{handled}; from attcli.cli import main; print('begun', flush=True); main()"
    words = [sys.executable, "-c", code, "distill", *SETS, "--set", "distill.iterations=1000000"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, start_new_session=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(delay)
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == (130 if number == signal.SIGINT else 75)
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("attcli: interrupted" if number == signal.SIGINT else "attcli: stopped")


INTERRUPTED_ONCE_MORE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)

from attcli import cli
from attcli.stages.interrupt import deferred

def command():
    cli.raise_interrupts()
    try:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            print("its step is finished", flush=True)
    finally:
        signal.raise_signal(signal.SIGINT)  # while what it had begun is cleaned up
        print("it is still there", flush=True)

cli._command = command
cli.main()
"""


def test_another_interruption_ends_a_command_that_is_ending_at_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", INTERRUPTED_ONCE_MORE]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (130, "its step is finished\n")
    assert ended.stderr == f"{WAITING}attcli: interrupted\n"


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash, where `attcli` is the command and `code` prints its exit code."""
    functions = f'attcli() {{ "{sys.executable}" -m attcli "$@"; echo "code $?" >&3; }}\n'
    words = ["bash", "-c", f"exec 3> codes\n{functions}{command}"]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("attcli recipes | head -1", 0),
        ("attcli --version | true", 0),
        ("attcli config | true", 0),
        ("attcli recipes >&-", 0),
        ("attcli recipes >/dev/full", 2),
        ("attcli --version >/dev/full", 2),
        ("attcli --help >/dev/full", 2),
        ("attcli distill --ipc 0 2>&-", 2),
        ("attcli distill --ipc 0 2>&1 | true", 2),
        ("attcli distill --ipc 0 >&- 2>&- <&-", 2),
    ],
)
def test_closed_streams_leave_no_traceback_and_keep_the_exit_code(command: str, code: int, tmp_path: Path) -> None:
    ended = shell(command, tmp_path)
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Exception ignored" not in ended.stdout + ended.stderr
    assert (tmp_path / "codes").read_text() == f"code {code}\n"


def test_a_stage_works_with_all_streams_closed(tmp_path: Path) -> None:
    """Without a stand-in for stderr, a file that is opened later would get its number, and the log."""
    shell(f"attcli buffer {' '.join(SETS)} >&- 2>&- <&-", tmp_path)
    assert (tmp_path / "codes").read_text() == "code 0\n"
    assert len(list((tmp_path / "artifacts" / "experts").glob("*.h5"))) == 2


def test_what_is_said_of_a_folder_while_settings_are_read_looks_like_the_log(tmp_path: Path) -> None:
    classes(tmp_path / "images", count=20)
    (tmp_path / "images" / "cat" / "notes.txt").touch()
    words = ["prepare", "--dataset", "folder", "--data-dir", "images", "--set", "buffer.batch=8"]
    code = "import attcli.data.contents as c; c.TOLD_FROM = 1; from attcli.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    lines = ended.stderr.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d (INFO|WARNING) ", line) for line in lines), ended.stderr
    assert sum("notes.txt" in line for line in lines) == 1
    assert sum("looking at 40 files" in line for line in lines) == 1
    assert sum("recipes are for published datasets, and folder is none" in line for line in lines) == 1
