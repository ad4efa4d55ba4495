"""What is tried in the image, as a user that the image does not know."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from checks.image.buildah import Container

USER, GROUP = 54_321, 54_321
ANY_USER_OF_GROUP_0 = f"{USER}:0"
"""As OpenShift runs images: a user without a name, in group 0."""

USER_OF_THE_HOST = f"{USER}:{GROUP}"
"""As `docker run --user "$(id -u):$(id -g)"` does, with folders that this user owns."""

DIGITS = ("--dataset", "digits", "--experts", "2", "--iterations", "40", "--set", "distill.save_every=10")
SAVED, LAST = (f"artifacts/snapshots/iteration-*{number}0.h5" for number in ("[1-9]", "4"))
"""Snapshots of such a run: any after the first iterations, and the last one."""

PATIENCE = 3600.0
"""Seconds after which a command counts as hanging."""

DIGITS_AT_LEAST = 90.0
"""Percent that ten distilled digits reach at least; it is 94 everywhere."""

SHORT = {"buffer": {"experts": 3}, "distill": {"iterations": 30}, "evaluate": {"repeats": 1}}
SHORT_AT_LEAST = 80.0
"""Settings of a shorter pipeline, and what it reaches at least; ten random real digits reach 73."""


class FailedError(Exception):
    """A trial that did not end as it should; what was said instead."""


@dataclass
class Trials:
    """The trials of one container, each with what it found and how long it took, in the order in which they ran."""

    container: Container
    folder: Path
    """For volumes; emptied by nobody."""
    checkout: Path
    """A checkout of the repository that belongs to the user of the host."""
    short: bool = False
    """Whether the pipeline of the digits is made shorter."""
    results: list[dict[str, object]] = field(default_factory=list)

    def run_all(self, only: Sequence[str] = ()) -> None:
        """Every trial, or those with the names in `only`; one that fails does not keep others from being made."""
        for name, trial in self.trials().items():
            if only and name not in only:
                continue
            begun = time.monotonic()
            try:
                said, passed = trial(), True
            except FailedError as error:
                said, passed = str(error), False
            except Exception as error:  # an output that the trial did not expect
                said, passed = f"{type(error).__name__}: {error}", False
            seconds = round(time.monotonic() - begun, 1)
            self.results.append({"trial": name, "passed": passed, "seconds": seconds, "said": said})
            print(f"{'ok    ' if passed else 'FAILED'} {name}: {said} ({seconds} s)", flush=True)

    def trials(self) -> dict[str, Callable[[], str]]:
        """The trials by what they try."""
        return {
            "--help": self.help,
            "no GPU": self.no_gpu,
            "no network": self.no_network,
            "read-only volume": self.read_only,
            "volume of another user": self.not_writable,
            "killed and resumed": self.killed_and_resumed,
            "digits by dvc repro": self.digits_by_dvc,
            "doctor": self.doctor,
            "full volume": self.full,
            "no volume": self.no_volume,
        }

    def volume(self, name: str, mode: int = 0o2770) -> Path:
        """A new folder that belongs to the user of the host and to group 0."""
        folder = self.folder / name
        folder.mkdir(mode=0o755, parents=True)
        os.chown(folder, USER, 0)
        folder.chmod(mode)
        return folder

    def run(
        self,
        words: Sequence[str],
        volumes: Mapping[Path, str] | None = None,
        *,
        user: str = ANY_USER_OF_GROUP_0,
        network: bool = True,
        code: int = 0,
    ) -> str:
        """What a command prints on both streams. FailedError unless it exits with `code`."""
        command = self.container.command(words, user, volumes or {}, network=network)
        try:
            done = subprocess.run(
                command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise FailedError(f"`{' '.join(words)}` took longer than {PATIENCE:.0f} s") from None
        if done.returncode != code:
            last = " ".join(done.stdout.strip().splitlines()[-3:])
            raise FailedError(f"`{' '.join(words)}` ended with {done.returncode} instead of {code}: {last[-500:]}")
        return done.stdout

    def refused(self, part: str, words: Sequence[str], volumes: Mapping[Path, str], **options: object) -> str:
        """The one line of a command that is refused with exit code 2. FailedError unless `part` is in it."""
        said = self.run(words, volumes, code=2, **options)  # type: ignore[arg-type]
        lines = [line for line in said.splitlines() if line.startswith("attcli: ")]
        if len(lines) != 1 or part not in lines[0] or "Traceback" in said:
            raise FailedError(f"not one line with {part!r}: {said[-500:]}")
        return lines[0]

    def help(self) -> str:
        """The help, without any volume."""
        begun = time.monotonic()
        said = self.run(["attcli", "--help"])
        expect("distill" in said, said)
        return f"printed in {time.monotonic() - begun:.1f} s"

    def doctor(self) -> str:
        """All checks of the doctor: none is a problem, a step compiles, the results are on a volume."""
        report = self.run(["attcli", "doctor", "--json"], {self.volume("doctor"): "/work"})
        checks = {entry["check"]: entry for entry in json.loads(report[report.index("{") :])["checks"]}
        expect(all(entry["state"] != "problem" for entry in checks.values()), report)
        expect(checks["compiled step"]["state"] == "ok", str(checks["compiled step"]))
        expect("mounted folder" in checks["container"]["says"], str(checks["container"]))
        return f"no problem; {checks['compiled step']['says']}"

    def no_gpu(self) -> str:
        """A GPU is asked for, and there is none."""
        words = ["attcli", "distill", "--dataset", "digits", "--device", "cuda"]
        return self.refused("is not available here", words, {self.volume("gpu"): "/work"})

    def no_network(self) -> str:
        """CIFAR-10 is to be downloaded, and cannot be."""
        volumes = {self.volume("network"): "/work"}
        return self.refused("could not be downloaded", ["attcli", "distill", "--ipc", "50"], volumes, network=False)

    def read_only(self) -> str:
        """The volume is mounted read-only."""
        volumes = {self.volume("read-only"): "/work:ro"}
        return self.refused("is mounted read-only", ["attcli", "distill", "--dataset", "digits"], volumes)

    def not_writable(self) -> str:
        """The volume belongs to another user, who lets nobody write."""
        folder = self.volume("other", 0o755)
        os.chown(folder, USER + 1, GROUP + 1)
        return self.refused("may not be written to", ["attcli", "distill", "--dataset", "digits"], {folder: "/work"})

    def full(self) -> str:
        """The volume becomes full while experts are trained. What was finished is used once there is room."""
        folder = self.volume("full")
        mount = ["mount", "-t", "tmpfs", "-o", f"size=1500k,uid={USER},mode=770", "tmpfs", str(folder)]
        subprocess.run(mount, check=True)
        words = ["attcli", "distill", *DIGITS]
        try:
            line = self.refused("No space left on device", words, {folder: "/work"}, user=USER_OF_THE_HOST)
            subprocess.run(["mount", "-o", "remount,size=200m", str(folder)], check=True)
            self.run(words, {folder: "/work"}, user=USER_OF_THE_HOST)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)
        return line

    def no_volume(self) -> str:
        """Results without a volume: a warning says at once that they will be lost, and what the run takes."""
        said = self.run(["attcli", "distill", "--dataset", "digits", "--experts", "1", "--iterations", "2"])
        (lost,) = (line for line in said.splitlines() if "are lost with it" in line)
        expect("this takes " in said and " of disk" in said, said)
        return lost.partition("WARNING")[2].strip()

    def killed_and_resumed(self) -> str:
        """A distillation is killed by SIGKILL and run again: it resumes, and ends with the bytes of an unbroken one."""
        killed, whole = self.volume("killed"), self.volume("whole")
        words = ["attcli", "distill", *DIGITS]
        command = self.container.command(words, ANY_USER_OF_GROUP_0, {killed: "/work"}, network=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: any(killed.glob(SAVED)), process)
        kill_attcli(process.pid)
        process.wait()
        expect(not any(killed.glob(LAST)), "it was killed too late")
        said = self.run(words, {killed: "/work"})
        resumed = re.search(r"resuming after iteration [123]0 of 40", said)
        expect(resumed is not None, said)
        self.run(words, {whole: "/work"})
        digests = {hashlib.sha256((f / "artifacts" / "synthetic.h5").read_bytes()).hexdigest() for f in (killed, whole)}
        expect(len(digests) == 1, "the resumed set differs from that of an uninterrupted run")
        return f"{resumed[0] if resumed else ''}; the set has the bytes of an uninterrupted run"

    def digits_by_dvc(self) -> str:
        """`dvc repro` in a mounted checkout, as its owner."""
        volumes = {self.checkout: "/work"}
        least = DIGITS_AT_LEAST
        if self.short:
            shorten(self.checkout / "params.yaml")
            least = SHORT_AT_LEAST
        self.run(["dvc", "repro"], volumes, user=USER_OF_THE_HOST)
        scores = json.loads((self.checkout / "artifacts" / "scores.json").read_text())
        accuracy = scores["scores"]["convnet"]["synthetic"]["mean"]
        expect(accuracy > least, f"only {accuracy:.1f} %")
        said = self.run(["dvc", "status"], volumes, user=USER_OF_THE_HOST)
        expect("up to date" in said, said)
        return f"{accuracy:.2f} % on digits, and `dvc status` finds all up to date"


def shorten(params: Path) -> None:
    """Write SHORT into a params file, which keeps its owner."""
    yaml = YAML()
    values = yaml.load(params.read_text(encoding="utf-8"))
    for section, changes in SHORT.items():
        values[section].update(changes)
    with params.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def expect(holds: bool, said: str) -> None:
    """FailedError with what was said, unless it holds."""
    if not holds:
        raise FailedError(" ".join(said.split())[-500:])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until it holds. FailedError where the process ends before."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            raise FailedError("it ended, or took too long, before it could be killed")
        time.sleep(0.05)


def kill_attcli(pid: int) -> None:
    """SIGKILL for the processes below buildah's that run attcli, as a machine that runs out of memory would send it."""
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            if Path(child.exe()).name.startswith("python") and "attcli" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
