"""A few cases of each kind: what `make fuzz` runs thousands of."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from attcli import runtime
from tests.fuzz import bases
from tests.fuzz.kinds import Kind, all_kinds
from tests.fuzz.verdict import HangError, ending, within

CASES = 25
CPU_SECONDS = 10.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bases.Bases:
    runtime.configure(1, deterministic=True)
    return bases.make(tmp_path_factory.mktemp("bases"))


NAMES = (
    *("settings on the command line", "params files", "environment variables", "names and addresses"),
    *("headers of artefacts", "arrays of artefacts", "bytes of artefacts", "safetensors", "folders of pictures"),
    *("sets of released codes", "experts of released codes", "attcli import"),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_every_case_is_accepted_or_refused_in_a_line(name: str, made: bases.Bases, tmp_path: Path) -> None:
    kind: Kind = all_kinds(made)[name]
    endings: list[str] = []

    @settings(
        max_examples=CASES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.drawn)
    def each(case: Any) -> None:
        with within(CPU_SECONDS):
            endings.append(ending(lambda: kind.act(case, tmp_path, made)))

    each()
    assert len(endings) >= CASES // 2
    assert "refused" in endings


def test_a_plan_is_not_left_out(made: bases.Bases) -> None:
    assert {*NAMES, "settings of a plan"} == {*all_kinds(made)}


def test_the_verdict_tells_what_does_not_end_as_it_should() -> None:
    from attcli.errors import UserError

    def refuse(line: str) -> Any:
        error = UserError("x")
        error.args = (line,)
        raise error

    def forever() -> None:
        while True:
            pass

    assert ending(lambda: None) == "accepted"
    assert ending(lambda: refuse("no")) == "refused"
    for line in ("", "a\nb", "\x1b[2J", "\u202e", "x" * 10_000):
        with pytest.raises(AssertionError):
            ending(lambda line=line: refuse(line))
    with pytest.raises(ZeroDivisionError):
        ending(lambda: 1 / 0)
    with pytest.raises(HangError), within(0.2):
        ending(forever)
