"""The command line: what it prints, and how it refuses."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from attcli import __version__
from attcli.cli import main, raise_interrupts
from attcli.cli.command import seconds
from attcli.settings.layers import names
from attcli.settings.recipes import get
from attcli.signals import SIGNALS
from attcli.tables import beside_published
from tests.conftest import SMALL, Cli

COMMANDS = (
    *("prepare", "buffer", "distill", "evaluate", "reproduce", "import", "export", "push"),
    *("config", "recipes", "diagnose", "records", "doctor", "init"),
)


def refused(cli: Cli, *words: str, small: bool = False) -> str:
    """The one line that a command is refused with."""
    output = (cli.small if small else cli)(*words, code=2)
    lines = [line for line in output.splitlines() if line and " INFO " not in line]  # the log says what was begun
    assert len(lines) == 1
    assert lines[0].startswith("attcli: ")
    return lines[0]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_no_torch(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    code = (
        "import sys\nfrom attcli.cli import app\n"
        f"try:\n    app({words!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'h5py', 'sklearn', 'dvc'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage" in result.stdout


def test_version(cli: Cli) -> None:
    assert cli("--version").strip() == __version__


def test_settings_are_refused_before_torch_is_loaded(tmp_path: Path) -> None:
    code = "import sys\nfrom attcli.cli import app\ntry:\n    app(['distill', '--ipc', '0'])\n"
    code += "except SystemExit as end:\n    assert end.code == 2\nassert 'torch' not in sys.modules\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_everything_from_nothing_and_its_table(cli: Cli) -> None:
    output = cli.small("evaluate", "--archs", "convnet,vgg11", "--repeats", "1")
    assert "vgg11" in output
    assert "accuracy in %" in output
    report = json.loads(cli.small("evaluate", "--archs", "convnet,vgg11", "--repeats", "1", "--json"))
    assert {"scores": report["scores"]} == json.loads(Path("artifacts/scores.json").read_text())
    assert report["protocol"]["name"] == "exact"
    assert sorted(path.name for path in Path("artifacts").iterdir()) == [
        ".lock", "dataset.h5", "experts", "history.csv", "history.h5", "images.png", "normaliser.h5",
        "scores-about.json", "scores.json", "snapshots", "synthetic.h5",
    ]  # fmt: skip


@pytest.mark.cpu
def test_stdout_is_the_result_and_stderr_the_log(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    words = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    result = subprocess.run(
        [sys.executable, "-m", "attcli", "evaluate", *words, "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout)["scores"]["convnet"]["synthetic"]["n"] == 2
    assert "training 2 experts to 3 epochs each" in result.stderr
    assert "evaluate: recipe att/digits/ipc1, network convnet (1,026 parameters), on cpu (" in result.stderr
    assert "\x1b" not in result.stderr
    assert "\r" not in result.stderr


def test_released_protocol_by_set(cli: Cli) -> None:
    report = json.loads(cli.small("evaluate", "--json", "--set", "evaluate.protocol=released"))
    assert report["protocol"]["name"] == "released"


def test_snapshots_table(cli: Cli) -> None:
    cli.small("distill")
    output = cli.small("evaluate", "--snapshots")
    assert "snapshots on validation images" in output
    assert "best on validation, tested" in output
    assert "literature" not in output
    assert "literature: maximum of tests" in cli.small("evaluate", "--snapshots", "--literature")


def test_diagnosis_of_a_run(cli: Cli) -> None:
    cli.small("distill")
    lines = cli("diagnose", "--gammas", "1,2", "--every", "3").splitlines()
    assert lines[0].startswith("the nearest step was the last of 5 in ")
    assert "the matched step was the nearest in 100.0 %" in lines
    written = [line for line in lines if line.startswith("artifacts")]
    assert {Path(path).name for path in written} == {
        f"{table}.{kind}" for table in ("distances", "mismatches", "matched") for kind in ("csv", "png", "svg")
    }
    folder = Path("artifacts/diagnosis")
    with h5py.File("artifacts/history.h5") as file:
        l1 = file["l1"][()]
    matched = [line.split(",") for line in (folder / "matched.csv").read_text().splitlines()]
    assert matched[0] == ["iteration", "nearest", "matched"]
    assert [int(row[1]) for row in matched[1:]] == [int(row.argmin()) + 1 for row in l1]
    assert [row[1] for row in matched[1:]] == [row[2] for row in matched[1:]]  # ATT matches the nearest
    counted = [list(map(int, line.split(","))) for line in (folder / "mismatches.csv").read_text().splitlines()[1:]]
    missed = 5 - (l1.argmin(axis=1) + 1)
    assert counted == [
        [0, 3, int((missed[:3] >= 1).sum()), int((missed[:3] >= 2).sum())],
        [3, 3, int((missed[3:] >= 1).sum()), int((missed[3:] >= 2).sum())],
    ]
    header, first = (folder / "distances.csv").read_text().splitlines()[:2]
    assert header.split(",")[:2] == ["step", "iteration_0"]
    assert float(first.split(",")[1]) == pytest.approx(float(l1[0, 0]), rel=1e-6)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    cli("diagnose", "--gammas", "1,2", "--every", "3")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before["distances.png"].startswith(b"\x89PNG")
    assert b"<svg" in before["distances.svg"]


def test_reproduce_says_the_cost_and_the_published_value(cli: Cli) -> None:
    plan = cli("reproduce", "att/cifar10/ipc10", "--dry-run")
    assert "would train 100 experts of 21 epochs" in plan
    assert re.search(r"\ndistill .*, about [\d.]+ (years|days|h|min), about [\d.]+ GB of memory\n", plan)
    assert re.search(r"\ntimes +[\d.e+]+ floating-point operations at .* GFLOP/s, the speed that plain steps of", plan)
    assert list(Path().iterdir()) == []
    small = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    cli("reproduce", "att/digits/ipc1", *small, "--time-limit", "0.001s", code=75)
    assert not Path("reproduced/att/digits/ipc1/scores.json").exists()
    output = cli("reproduce", "att/digits/ipc1", *small)
    assert "nothing is published for this recipe" in output
    assert Path("reproduced/att/digits/ipc1/scores.json").exists()
    longer = json.loads(cli("reproduce", "att/digits/ipc1", *small, "--set", "distill.iterations=8", "--json"))
    assert longer["set"]["iteration"] == 8
    other = ("reproduce", "att/digits/ipc1", *small, "--set", "distill.lr_img=3", "--json")
    assert "distill.lr_img is 1.0 there, 3.0 asked for" in cli(*other, code=2)
    assert json.loads(cli(*other, "--force"))["set"]["sha256"] != longer["set"]["sha256"]


def test_the_published_value_is_told_with_what_it_is() -> None:
    report = {"scores": {"convnet": {"synthetic": {"mean": 46.5, "sd": 0.5, "n": 5}}}}
    line, note = beside_published(report, get("att/cifar10/ipc1").published).splitlines()
    assert line == "convnet: synthetic 46.50 ± 0.50 (n=5); published 48.3 ± 1.0 (ATT, results table)"
    assert "maxima over tests" in note


def test_dry_run_says_what_would_run_and_makes_nothing(cli: Cli) -> None:
    output = cli.small("evaluate", "--dry-run")
    assert "would make artifacts/dataset.h5" in output
    assert "would train 2 experts of 3 epochs" in output
    assert "would run 6 of 6 iterations" in output
    assert "would train up to 10 networks" in output
    assert list(Path().iterdir()) == []
    cli.small("distill")
    output = cli.small("distill", "--dry-run")
    assert output.count("nothing to do") == 3
    far = ("--set", "distill.init=correct", "--set", "buffer.epochs=4", "--force")
    cli.small("distill", *far)
    assert cli.small("distill", *far, "--dry-run").count("nothing to do") == 3
    output = cli.small("distill", "--dry-run", "--set", "buffer.experts=3", "--iterations", "8")
    assert "would train 3 of 9 epochs" in output
    assert "BUT one with other settings is there (--force overwrites it, --artifacts DIR" in output
    assert "of 8 iterations" in output


def test_dry_run_of_the_paper(cli: Cli) -> None:
    output = cli("distill", "--ipc", "50", "--dry-run")
    assert "100 experts of 41 epochs: 5 GB of disk" in output
    size = "50 images per class in 614,400 bytes (50.00 float32 images)"
    assert f"1000000 iterations (att, ipc 50, 50 steps; {size})" in output


def test_config_tells_values_and_where_they_come_from(cli: Cli) -> None:
    Path("params.yaml").write_text("distill: {ipc: 10}\n")
    listed = json.loads(cli("config", "--json", "--set", "seed=3"))
    assert set(listed) == set(names())
    assert listed["distill.ipc"] == {"value": 10, "from": "params.yaml"}
    assert listed["seed"] == {"value": 3, "from": "flag"}
    assert listed["distill.lr_img"] == {"value": 10000, "from": "recipe att/cifar10/ipc10"}
    plain = cli("config").splitlines()
    assert len(plain) == len(listed)
    schema = json.loads(cli("config", "--schema"))
    assert schema["$defs"]["Distill"]["properties"]["ipc"]["minimum"] == 1


def test_params_file_by_name(cli: Cli) -> None:
    Path("other.yaml").write_text("distill: {ipc: 10}\n")
    listed = json.loads(cli("config", "--json", "--params", "other.yaml"))
    assert listed["distill.ipc"] == {"value": 10, "from": "other.yaml"}
    assert "nowhere.yaml cannot be read" in refused(cli, "config", "--params", "nowhere.yaml")


def test_a_recipe_is_used(cli: Cli) -> None:
    cli("recipes", "use", "att/cifar100/ipc1")
    listed = json.loads(cli("config", "--json"))
    assert listed["distill.syn_steps"] == {"value": 50, "from": "params.yaml"}
    line = refused(cli, "recipes", "use", "att/cifar100/ipc10")
    assert "work in another folder, or add --force, which replaces what you wrote into it" in line
    assert "did you mean 'att/cifar10/ipc10'?" in refused(cli, "recipes", "show", "att/cifar10/ipc11")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prepare", "--dataset", "cifar11"), "unknown dataset 'cifar11'; did you mean 'cifar10'?"),
        (("evaluate", "--archs", "convnet,vgg12"), "unknown architecture 'vgg12'; did you mean 'vgg11'?"),
        (
            ("prepare", "--dataset", "digits", "--artifacts", "/proc/none"),
            "nothing can be kept in /proc/none: its file",
        ),
        (("distill", "--ipc", "0"), "distill.ipc: input should be greater than or equal to 1, not 0"),
        (("distill", "--set", "distill.ips=1"), "did you mean 'distill.ipc'?"),
        (("distill", "--method", "mttt"), "unknown method 'mttt'; did you mean 'mtt'?"),
        (("prepare", "--dataset", "imagenette"), "imagenette is not in data: there is no train/n01440764 there"),
        (
            ("distill", "--device", "cuda:99", "--dataset", "digits", "--set", "distill.ipc=1"),
            "device 'cuda:99' is not",
        ),
        (("distill", "--device", "meta", "--dataset", "digits"), "device 'meta' is not available here"),
        (("distill", "--set", "distill={lr_img: 5, ipc: 3}"), "unknown setting in --set"),
        (("distill", "--set", "prepare.dataset=2024-13-45"), "unknown dataset '2024-13-45'"),
        (("distill", "--set", "distill.augment=crop_none"), "unknown augmentation in distill.augment: 'none'"),
        (("distill", "--set", "distill.augment=''"), "color, crop, cutout, flip, scale, rotate, or none"),
        (
            ("prepare", "--dataset", "digits", "--artifacts", "/dev/null/there"),
            "/dev/null is no folder; choose another folder as runtime.artifacts (--artifacts DIR)",
        ),
        (("distill", "--time-limit", "0s"), "--time-limit 0s: write it as 90s, 30m, 2h, 1h30m, 1d, 1:30:00 or 2-12:30"),
        (("distill", "--set", "distill.lr_img=.inf"), "distill.lr_img: input should be a finite number"),
        (("evaluate", "--dry-run", "--json"), "--dry-run prints lines for people; leave --json out"),
        (("evaluate", "set.h5", "--dry-run"), "set.h5 is missing; name a file that exists"),
        (("reproduce", "att/digits/ipc1", "--set", "distill.ipc=10"), "att/digits/ipc1 decides distill.ipc"),
        (
            ("distill", "--time-limit", "soon"),
            "--time-limit soon: write it as 90s, 30m, 2h, 1h30m, 1d, 1:30:00 or 2-12:30",
        ),
        (("distill", "--time-limit", "1:" * 300 + "00"), "write it as 90s, 30m, 2h, 1h30m, 1d, 1:30:00 or 2-12:30"),
        (
            ("distill", "--time-limit", "1h30"),
            "--time-limit 1h30: write it as 90s, 30m, 2h, 1h30m, 1d, 1:30:00 or 2-12:30",
        ),
        (("buffer", "--epochs", "few"), "buffer.epochs: "),
        (("buffer", "--epochs", "\u00b2"), "buffer.epochs: "),
        (("buffer", "--epochs", "9" * 4301), "buffer.epochs: "),
        (("evaluate", "--literature"), "--literature takes the maximum over snapshots; add --snapshots"),
        (("diagnose",), "artifacts/history.h5 is missing; run `attcli distill`"),
        (("diagnose", "--gammas", "x"), "--gammas x: write whole numbers, as 5,10,20"),
        (("diagnose", "--gammas", "5,\u00b2"), "--gammas 5,\u00b2: write whole numbers, as 5,10,20"),
        (("diagnose", "--gammas", "9" * 4301), "write whole numbers, as 5,10,20"),
        (("diagnose", "--metric", "l3"), "--metric l3: choose l1 or l2"),
        (("diagnose", "--every", "0"), "--gammas and --every must be at least 1"),
        (("reproduce", "att/cifar10/ipc11"), "unknown recipe 'att/cifar10/ipc11'; did you mean"),
        (("distill", "--method", "att+dattm"), "unknown method 'dattm'; did you mean 'datm'?"),
        (("buffer", "--set", "buffer.trainer=gsam"), "unknown trainer 'gsam'"),
        (("evaluate", "--snapshots", "set.h5"), "--snapshots scores the results' own snapshots"),
        (("evaluate", "set.h5"), "set.h5 is missing; name a file that exists"),
        (("export", "set.h5", "--to", "png"), "set.h5 is missing; name a file that exists"),
        (("recipes", "--dataset", "cifar"), "unknown dataset 'cifar'; did you mean 'cifar10'?"),
        (("recipes", "list", "--method", "at"), "unknown method 'at'; did you mean 'att'?"),
        (("recipes", "--dataset", "cifar10", "show", "att/cifar10/ipc1"), "put flags behind the command"),
        (("config", "distil"), "unknown section 'distil'; did you mean 'distill'?"),
        (("config", "distill.lr_imgs"), "unknown section 'distill.lr_imgs'; did you mean 'distill.lr_img'?"),
        (("config", "--json", "--yaml"), "--yaml, --json and --schema print the settings in three ways"),
    ],
)
def test_bad_input(cli: Cli, words: tuple[str, ...], message: str) -> None:
    assert message in refused(cli, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("distill", "--ipc", "ten"),
        ("evaluate", "--repeats", "ten"),
        ("prepare", "--limit-per-class", "ten"),
        ("recipes", "--ipc", "ten"),
        ("diagnose", "--every", "ten"),
    ],
)
def test_a_word_in_the_place_of_a_number(cli: Cli, words: tuple[str, ...]) -> None:
    assert "'ten' is not a whole number" in cli(*words, code=2)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_no_type_behind_flags_that_take_no_value(cli: Cli, command: str) -> None:
    assert "bool" not in cli(*command.split(), "--help")


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        *(("90s", 90), ("90", 90), ("1.5h", 5400), ("3h45m", 13_500), ("1d2h3m4s", 93_784), ("1:30:00", 5400)),
        *(("30:00", 1800), ("2-00:00:00", 172_800), ("1-12:30", 131_400), ("1-12:30:05", 131_405)),
        ("2-12", 216_000),
    ],
)
def test_a_time_limit_in_its_spellings(text: str, duration: float) -> None:
    assert seconds(text, "--time-limit") == duration


def test_the_log_says_whether_settings_come_from_a_recipe(cli: Cli) -> None:
    log = cli.small_log("prepare", "--set", "distill.method=uint8")
    assert "there is no recipe for just this method, dataset and ipc; the defaults apply" in log
    assert "prepare: no recipe, network convnet" in log
    log = cli.small_log("prepare", "--set", "distill.ipc=3", "--artifacts", "other")
    assert "there is no recipe for just this method, dataset and ipc; att/digits/ipc1 is used" in log
    assert "prepare: recipe att/digits/ipc1, network convnet" in log


def test_params_that_are_no_yaml(cli: Cli) -> None:
    Path("params.yaml").write_text("distill: [\n")
    assert "is not valid YAML" in refused(cli, "distill")


def test_missing_artefacts_with_no_auto(cli: Cli) -> None:
    assert "dataset.h5 is missing; run `attcli prepare`" in refused(cli, "distill", "--no-auto", small=True)
    assert "synthetic.h5 is missing; run `attcli distill`" in refused(cli, "evaluate", "--no-auto", small=True)


def test_experts_of_another_network(cli: Cli) -> None:
    cli.small("buffer")
    line = refused(cli, "distill", "--no-auto", "--set", "network.width=16", small=True)
    assert "network.width is 8 there, 16 asked for" in line


def test_a_truncated_file(cli: Cli) -> None:
    cli.small("distill")
    path = Path("artifacts/synthetic.h5")
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:1000])
    assert "synthetic.h5 is damaged or cut short" in refused(cli, "evaluate", "--no-auto", small=True)


def test_under_dvc_results_lie_where_the_pipeline_says(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "prepare")
    monkeypatch.setenv("ATTCLI_ARTIFACTS", "elsewhere")
    cli("recipes", "use", "att/digits/ipc1")
    assert "ATTCLI_ARTIFACTS is set, so that the results would not lie" in refused(cli, "prepare", "--no-auto")
    monkeypatch.setenv("ATTCLI_ARTIFACTS", "artifacts")
    cli("prepare", "--no-auto")


def test_commands_of_a_group_are_offered_to_the_shell(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "attcli records "
    script = Path(sys.executable).with_name("attcli")
    variables = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": "2", "_ATTCLI_COMPLETE": "complete_bash"}
    offered = subprocess.run([script], env=variables, capture_output=True, text=True, check=False).stdout.split()
    assert {"add", "list"} <= set(offered)


def test_under_dvc_every_content_setting_must_be_in_params(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "prepare")
    Path("params.yaml").write_text("distill: {ipc: 1}\n")
    line = refused(cli, "prepare", "--no-auto")
    assert "params.yaml lacks" in line
    assert "attcli recipes use" in line


@pytest.mark.parametrize("by_the_signal", [False, True])
def test_ctrl_c_while_a_command_ends_leaves_its_exit_code(by_the_signal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> int:
        raise_interrupts()
        if by_the_signal:
            signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr("attcli.cli._command", interrupted)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 130
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in SIGNALS)  # nothing is left to interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
