"""What people type by mistake, through the command line: exit code 2, one line, and what to do about it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attcli.cli import app

REMEDY = re.compile(
    r"did you mean|see `attcli|there are: |choose |use |write |add |lower |raise |set |run |name |check |unset |put |"
    r"remove |close |work in |leave |correct |delete |indent |instead"
)
"""Words that say what to do."""

TYPED: list[tuple[str, str]] = [
    # datasets
    ("prepare --dataset cifar-11", "unknown dataset 'cifar-11'; did you mean 'cifar10'?"),
    ("prepare --dataset digit", "did you mean 'digits'?"),
    ("distill --dataset myimages", "unknown dataset 'myimages'; "),
    ("distill --dataset ./myimages", "for a folder: --dataset folder --data-dir PATH reads images of your own"),
    ("distill --dataset ~/images", "for a folder: --dataset folder"),
    ("distill --dataset imagefolder", "for a folder: --dataset folder"),
    ("distill --dataset emnist", "did you mean 'mnist'? there are: cifar10, cifar100, digits"),
    ("prepare --dataset ''", "unknown dataset ''; there are: "),
    ("prepare --dataset digits,cifar10", "unknown dataset 'digits,cifar10'; "),
    ("prepare --dataset digits --limit-per-class 0", "prepare.limit_per_class: input should be greater than 0, not 0"),
    ("prepare --dataset digits --limit-per-class 5 --set buffer.batch=16 --set distill.ipc=9", "lower it"),
    ("prepare --dataset digits --set prepare.normalise=literature", "set prepare.normalise=standardise"),
    ("prepare --set prepare.normalise=whiten", "input should be 'zca', 'contrast', 'standardise' or 'literature'"),
    ("prepare --dataset digits --set prepare.validation=1e9", "lower it"),
    # methods
    ("distill --method at", "did you mean 'att'?"),
    ("distill --method att,datm", "did you mean 'att+datm'?"),
    ("distill --method 'att datm'", "did you mean 'att+datm'?"),
    ("distill --method ATT/DATM", "did you mean 'att+datm'?"),
    ("distill --method att+", "did you mean 'att'?"),
    ("distill --method att+dattm", "did you mean 'datm'?"),
    ("distill --method ''", "there are: att, cafe, codes"),
    ("distill --method att+multiformation+multiformation", "names multiformation twice; leave one out"),
    ("distill --method xq", "there are: att, cafe, codes"),
    ("distill --method 'att\n+datm x'", "there are: att"),
    # networks
    ("evaluate --archs ''", "evaluate.archs is empty; write names"),
    (
        "evaluate --archs convnet, vgg11",
        "evaluate.archs 'convnet,' lacks a name; write names with commas and no blanks",
    ),
    ("evaluate --archs convnet,vgg12", "did you mean 'vgg11'?"),
    ("evaluate --archs resnet50", "did you mean 'resnet18'?"),
    ("evaluate --archs tim:resnet18", "did you mean 'resnet18'?"),
    ("evaluate --archs deit", "there are: alexnet, convnet"),
    ("buffer --set network.arch=convnet3", "did you mean 'convnet'?"),
    ("buffer --set network.norm=bach", "or 'none', not 'bach'"),
    ("buffer --set network.width=1e9", "input should be less than or equal to"),
    ("buffer --set network.depth=deep", "network.depth: input should be a whole number, not 'deep'"),
    # experts
    ("buffer --set buffer.trainer=gsam", "there are: ftd, sgd"),
    ("buffer --experts 0", "buffer.experts: input should be greater than or equal to 1, not 0"),
    ("buffer --epochs few", "buffer.epochs: input should be a whole number or 'auto', not 'few'"),
    ("buffer --dataset digits --epochs 1", "set buffer.epochs to auto"),
    ("buffer --set buffer.batch=2000 --dataset digits", "lower it"),
    ("buffer --set buffer.augment=blur", "there are: color, crop"),
    ("buffer --set buffer.lr=0", "buffer.lr: input should be greater than 0, not 0"),
    ("buffer --set buffer.adaptive=maybe", "input should be true or false, not 'maybe'"),
    ("buffer --set buffer.experts=true", "input should be a number, not true"),
    # numbers
    ("distill --ipc 0", "distill.ipc: input should be greater than or equal to 1, not 0"),
    ("distill --ipc 6000", "lower it or set distill.init=noise"),
    ("distill --dataset digits --ipc 500", "lower it or set distill.init=noise"),
    ("distill --iterations -5", "distill.iterations: input should be greater than or equal to 1"),
    ("distill --set distill.ipc=ten", "input should be a whole number, not 'ten'"),
    ("distill --set distill.ipc=1.5", "input should be a whole number, not 1.5"),
    ("distill --set distill.ipc=", "input should be a whole number, not null"),
    ("distill --set distill.ipc=" + "9" * 5000, "a word of more than 4096 characters is longer than any that is meant"),
    ("distill --set distill.lr_img=-1", "input should be greater than or equal to 0, not -1"),
    ("distill --set distill.lr_img=1,5", "input should be a number, not '1,5'"),
    ("distill --set distill.lr_img=inf", "input should be a finite number"),
    ("distill --set distill.ema_decay=1", "input should be less than 1, not 1"),
    ("distill --set distill.max_start_epoch=0", "distill.max_start_epoch: input should be greater than 0"),
    ("distill --set distill.min_start_epoch=9", "leaves no start epoch below distill.max_start_epoch 2; lower it"),
    ("distill --set distill.batch_syn=1000", "lower it, or set it to null"),
    ("distill --seed -1", "distill.seed: input should be greater than or equal to 0"),
    ("distill --set runtime.threads=0", "runtime.threads: input should be greater than or equal to 1"),
    ("evaluate --repeats 0", "evaluate.repeats: input should be greater than or equal to 1"),
    ("evaluate --set evaluate.random_lrs=low", "input should be a list, as [a, b], not 'low'"),
    ("evaluate --set evaluate.protocol=exactly", "'ncfm' or 'honest', not 'exactly'"),
    # names of settings
    ("distill --set lr=3", "did you mean 'buffer.lr', 'evaluate.lr', "),
    ("distill --set ipc=3", "did you mean 'distill.ipc'?"),
    ("distill --set distill.lr_imgs=3", "did you mean 'distill.lr_img'?"),
    ("distill --set Distill.Ipc=3", "did you mean 'distill.ipc'?"),
    ("distill --set distill=3", "it is a section; write distill.NAME=VALUE"),
    ("distill --set distill.ipc", "write --set key=value"),
    ("distill --set distill.ipc:3", "write --set key=value"),
    ("distill --set =3", "see `attcli config`"),
    ("distill --set 'a\nb=1'", "'a\\nb'; see `attcli config`"),
    ("distill --set 'a\nb'", "write --set key=value"),
    ("config --set distil.ipc=3", "did you mean 'distill.ipc'?"),
    # recipes
    ("reproduce att/cifar10/ipc5", "did you mean 'att/cifar10/ipc1'? see `attcli recipes`"),
    ("reproduce att/cifar10", "did you mean 'att/cifar10/ipc1'? see `attcli recipes`"),
    ("reproduce nothing", "unknown recipe 'nothing'; see `attcli recipes`"),
    ("recipes show cifar10", "did you mean 'att/cifar10/ipc1'? see `attcli recipes`"),
    ("recipes use ATT-CIFAR10-IPC10", "see `attcli recipes`"),
    ("reproduce att/digits/ipc1 --set distill.ipc=10", "choose another recipe"),
    # files and places
    ("distill --params nowhere.yaml", "nowhere.yaml cannot be read (No such file or directory); check it, or name"),
    ("distill --params .", "cannot be read (Is a directory); check it, or name another with --params"),
    ("distill --params /dev/zero", "longer than 256 KiB, which no file of settings is; name another"),
    ("distill --time-limit soon", "write it as 90s, 30m, 2h"),
    ("evaluate --literature", "add --snapshots"),
    ("evaluate --dry-run --json", "leave --json out"),
    ("diagnose --gammas 5,ten", "write whole numbers"),
    ("diagnose --metric cosine", "choose l1 or l2"),
    ("work --stage distil", "choose prepare, difficulty, buffer, distill, evaluate or baselines"),
]

FILES: list[tuple[str, str]] = [
    ("train: {lr: 0.1}\n", "if params.yaml is not attcli's, name another file with --params FILE"),
    ("prepare: {split: 0.2, seed: 1}\n", "name another file with --params FILE"),
    ("prepare: 20\n", "section 'prepare' must hold settings, as `prepare: {name: value}`"),
    ("distil: {ipc: 1}\n", "did you mean 'distill'?"),
    ("distill: {ipcs: 1}\n", "did you mean 'distill.ipc'?"),
    ("ipc: 1\n", "did you mean 'distill.ipc'?"),
    ("distill:\n  ipc: 1\n  ipc: 2\n", "params.yaml, line 3 is not valid YAML: 'ipc' is there twice; remove one"),
    ("distill:\n\tipc: 1\n", "line 2 is not valid YAML: the line has a tab; indent with blanks"),
    ("distill: {ipc: 1\n", "close it"),
    ("- distill\n", "it must hold sections such as `distill:`; see `attcli recipes use`"),
    ("distill: {ipc: !!int x}\n", "'x' cannot be read as a whole number; correct it"),
    ("a: " + "[" * 1000, "line 1 is not valid YAML: brackets or sections are nested too deeply"),
    ("distill: {ipc: " + "9" * 5000 + "}", "cannot be read as a whole number; correct it"),
    ("distill: {ipc: !!python/name:os.system }", "a tag (a word that begins with !)"),
    ("distill: {ipc: '\x07'}\n", "control character"),
    ("distill: {ipc: many}\n", "input should be a whole number, not 'many' (from params.yaml, line 1)"),
    ("prepare: {dataset: cifar11}\n", "did you mean 'cifar10'?"),
]

ENVIRONMENT: list[tuple[str, str, str]] = [
    ("ATTCLI_IPC", "3", "ATTCLI_IPC is no runtime setting; unset it and use --set"),
    ("ATTCLI_DEVISE", "cpu", "did you mean ATTCLI_DEVICE?"),
    ("ATTCLI_THREADS", "many", "runtime.threads: input should be a whole number or 'auto', not 'many'"),
    ("ATTCLI_VERBOSITY", "loud", "input should be 'quiet', 'normal' or 'debug', not 'loud' (from environment)"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def words_of(typed: str) -> list[str]:
    """The words of a command line, of which those in single quotes hold blanks."""
    return [quoted or plain for quoted, plain in re.findall(r"'([^']*)'|(\S+)", typed)]


def refused(typed: str, **environment: str) -> str:
    """The one line that a command line is refused with."""
    result = CliRunner().invoke(app, words_of(typed), env=environment)
    assert result.exit_code == 2, f"{result.output}{result.exception!r}"
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("attcli: ")
    assert "Traceback" not in line
    assert len(line) < 400
    assert REMEDY.search(line), line
    return line


@pytest.mark.parametrize(("typed", "words"), TYPED)
def test_what_is_typed_by_mistake_is_refused_with_the_remedy(typed: str, words: str) -> None:
    assert words in refused(typed)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("text", "words"), FILES)
def test_a_wrong_params_file_is_refused_with_the_remedy(text: str, words: str) -> None:
    Path("params.yaml").write_text(text)
    assert words in refused("distill")
    assert Path("params.yaml").read_text() == text
    assert len(list(Path().iterdir())) == 1


@pytest.mark.parametrize("flag", ["--ipc 1", "--dataset CIFAR-100", "--method datm"])
def test_a_flag_against_the_params_file_is_refused_with_the_ways_out(flag: str) -> None:
    Path("params.yaml").write_text("prepare: {dataset: cifar10}\ndistill: {ipc: 10, method: att}\n")
    assert "work in another folder, or edit params.yaml" in refused(f"distill {flag}")


@pytest.mark.parametrize(("variable", "value", "words"), ENVIRONMENT)
def test_a_wrong_variable_is_refused_with_the_remedy(variable: str, value: str, words: str) -> None:
    assert words in refused("distill", **{variable: value})
