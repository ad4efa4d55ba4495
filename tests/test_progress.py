"""How progress is told where stderr is no terminal, and in a bar."""

import io
import re
from collections.abc import Iterator

import pytest
from loguru import logger
from rich.console import Console

from attcli import progress


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "a second"),
        (59.0, "59 s"),
        (90.0, "1.5 min"),
        (5400.0, "1.5 h"),
        (1.3e5, "1.5 days"),
        (9.5e7, "3.0 years"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert progress.duration(seconds) == words


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(1234.5, "1.23e+03 per second"), (12.34, "12.3 per second"), (0.5, "2 s each"), (0.005, "3.33 min each")],
)
def test_speeds(per_second: float, words: str) -> None:
    assert progress.speed(per_second) == words


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    logged: list[str] = []
    logger.enable("attcli")
    sink = logger.add(lambda message: logged.append(message.record["message"]), level="INFO")
    yield logged
    logger.remove(sink)


def test_plain_lines_say_what_is_left(clock: list[float], lines: list[str]) -> None:
    with progress.track("networks", 3) as track:
        for note in ("", "convnet 90 %", ""):
            clock[0] += 40.0
            track.advance(note)
    assert lines == [
        "networks 1/3 (40 s each, about 1.3 min left)",
        "networks 2/3, convnet 90 % (40 s each, about 40 s left)",
        "networks 3/3 (40 s each, done)",
    ]


def test_a_log_of_days_stays_short(clock: list[float], lines: list[str]) -> None:
    with progress.track("iterations", 200_000) as track:
        for _ in range(200_000):
            clock[0] += 2.0
            track.advance()
    days = clock[0] / 86_400
    assert 4 < days < 5
    assert 600 < len(lines) < 1000  # a line for every ten minutes, and some more at the beginning


class Terminal(io.StringIO):
    """A stream that calls itself a terminal, or does not."""

    def __init__(self, *, isatty: bool) -> None:
        super().__init__()
        self._isatty = isatty

    def isatty(self) -> bool:
        return self._isatty


def console(monkeypatch: pytest.MonkeyPatch, *, isatty: bool, jupyter: bool = False, **variables: str) -> Terminal:
    """Progress on another stream, in surroundings of these variables alone."""
    stream = Terminal(isatty=isatty)
    environment = {"TERM": "xterm-256color", **variables}
    monkeypatch.setattr(
        progress, "console", Console(file=stream, width=120, force_jupyter=jupyter, _environ=environment)
    )
    return stream


def test_the_bar_names_its_times_and_its_speed(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    terminal = console(monkeypatch, isatty=True)
    with progress.track("networks", 2) as track:
        clock[0] = 4.0
        track.advance("convnet 90 %")
    said = terminal.getvalue()
    for words in ("took", "left", "4 s each", "convnet 90 %", "\x1b[3"):
        assert words in said


def test_no_color_leaves_the_bar_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = console(monkeypatch, isatty=True, NO_COLOR="1")
    with progress.track("networks", 2) as track:
        track.advance("convnet 90 %")
    assert "convnet 90 %" in terminal.getvalue()
    assert not re.search(r"\x1b\[(\d+;)*3\d", terminal.getvalue())


@pytest.mark.parametrize(
    ("isatty", "jupyter", "variables"),
    [
        (True, False, {"TERM": "dumb"}),
        (False, False, {}),
        (False, False, {"FORCE_COLOR": "1"}),
        (False, True, {}),
    ],
)
def test_where_nothing_can_be_drawn_over_lines_are_logged(
    isatty: bool,
    jupyter: bool,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    clock: list[float],
    lines: list[str],
) -> None:
    stream = console(monkeypatch, isatty=isatty, jupyter=jupyter, **variables)
    with progress.track("networks", 2) as track:
        clock[0] = 60.0
        track.advance("convnet 90 %")
    assert lines == ["networks 1/2, convnet 90 % (1 min each, about 1.0 min left)"]
    assert stream.getvalue() == ""
