"""Cases of settings: on the command line, in params files, in variables of the environment."""

import io
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from ruamel.yaml import YAML
from typer.testing import CliRunner

from attcli.cli import app
from attcli.errors import UserError
from attcli.settings import resolve
from attcli.settings.layers import names, values_of
from attcli.settings.models import Runtime
from tests.conftest import SMALL
from tests.fuzz.bases import Bases
from tests.fuzz.values import WORDS, changed, damaged, json_values, plain, text
from tests.fuzz.verdict import check_line

NAMES = list(names())


def _invoke(words: list[str]) -> str:
    """Call the command line; how it ends. AssertionError for another exit code, or for lines that do not fit."""
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2), f"exit code {result.exit_code}"
    for line in filter(str.strip, result.output.split("\n")):
        check_line(line)
    if result.exit_code:
        last = result.stderr.strip().split("\n")[-1]
        assert last.startswith("attcli: "), last[:200]
        return "refused"
    return "accepted"


def _accepted_by(code: str) -> None:
    if code == "refused":
        raise UserError("refused")


DIGITS = resolve({"prepare.dataset": "digits"}, environ={}, ignore_params=True).settings

usual = st.sampled_from(sorted(f"{name}={json.dumps(value)}" for name, value in values_of(DIGITS).items()))
odd = st.tuples(st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), text), st.one_of(text, plain.map(str))).map(
    lambda pair: f"{pair[0]}={pair[1]}".replace("\0", "0")
)
assignments = st.lists(st.one_of(usual, odd), min_size=1, max_size=3)


def on_the_command_line(case: list[str], folder: Path, bases: Bases) -> None:
    """`attcli config --set …`."""
    sets = [word for assignment in case for word in ("--set", assignment)]
    _accepted_by(_invoke(["config", *sets]))


content_names = [name for name in NAMES if not name.startswith("runtime")]
planned = st.dictionaries(st.sampled_from(content_names), plain, min_size=1, max_size=2)


def in_a_plan(case: dict[str, Any], folder: Path, bases: Bases) -> None:
    """`attcli distill --dry-run` of the digits with some other values."""
    values = {**SMALL, **{name: json.dumps(value) for name, value in case.items()}}
    sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    where = ["--artifacts", str(folder / "planned")]
    _accepted_by(_invoke(["distill", "--dry-run", *where, *sets]))


def _dumped(content: Any) -> str:
    stream = io.StringIO()
    try:
        YAML(typ="safe").dump(content, stream)
    except Exception:
        return json.dumps(content)
    return stream.getvalue()


WHOLE = {name: value for name, value in DIGITS.model_dump(mode="json").items() if name != "runtime"}

BOMBS = [
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "distill: &d {ipc: *d}",
    "seed: &s [*s]",
    "distill:\n  ipc: &x [" + "[" * 100 + "]" * 100 + "]",
    "".join(" " * i + "a:\n" for i in range(400)),
    "<<: [{a: 1}, {b: 2}]\n",
    "distill: {<<: {ipc: 1}, <<: {ipc: 2}}",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "seed: !!python/object/apply:os.system [id]",
    "seed: !!timestamp 9999-99-99",
    "seed: !!omap [a: 1]",
    "seed: !!set {a, b}",
    "- 1\n- 2\n",
    "\x85a: 1",
    "seed: 0x" + "f" * 10_000,
    "evaluate: {archs: [" + ",".join(["convnet"] * 3000) + "]}",
    "evaluate: {random_lrs: [" + ",".join(["0.1"] * 3000) + "]}",
]

params = st.one_of(
    changed(WHOLE).map(_dumped).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from(BOMBS).map(str.encode),
    damaged(_dumped(WHOLE).encode()),
    st.tuples(st.sampled_from(NAMES), st.one_of(text, json_values.map(_dumped))).map(
        lambda pair: f"{pair[0].replace('.', ': {')}: {pair[1]}{'}' if '.' in pair[0] else ''}".encode(
            errors="surrogatepass"
        )
    ),
    st.binary(max_size=60),
    text.map(lambda text: text.encode(errors="surrogatepass")),
)


def in_a_file(case: bytes, folder: Path, bases: Bases) -> None:
    """`attcli config --params FILE`."""
    path = folder / "given.yaml"
    path.write_bytes(case)
    _accepted_by(_invoke(["config", "--params", str(path)]))


variables = st.dictionaries(
    st.one_of(
        st.sampled_from([f"ATTCLI_{name.upper()}" for name in Runtime.model_fields]),
        text.map(lambda text: f"ATTCLI_{text}"),
    ),
    st.one_of(st.binary(max_size=20).map(lambda data: data.decode(errors="surrogateescape")), st.sampled_from(WORDS)),
    min_size=1,
    max_size=2,
)


def in_the_environment(case: dict[str, str], folder: Path, bases: Bases) -> None:
    """The settings under these variables, as `attcli config` prints them."""
    environ = {name.replace("\0", ""): value.replace("\0", "") for name, value in case.items()}
    resolved = resolve({}, environ=environ, ignore_params=True)
    for name, value in values_of(resolved.settings).items():
        check_line(f"{name} {json.dumps(value)} {resolved.origin[name]}")
