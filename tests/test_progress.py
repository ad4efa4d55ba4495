"""How progress is told where stderr is no terminal, and in a bar."""

import io

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


def test_plain_lines_say_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines: list[str] = []
    logger.enable("attcli")
    sink = logger.add(lambda message: lines.append(message.record["message"]), level="INFO")
    try:
        with progress.track("networks", 10) as track:
            for note in ("", "convnet 90 %", ""):
                clock[0] += 40.0
                track.advance(note)
    finally:
        logger.remove(sink)
    assert lines == [
        "networks 1/10 (about 6.0 min left)",
        "networks 2/10, convnet 90 % (about 5.3 min left)",
        "networks 3/10 (about 4.7 min left)",
    ]


def test_the_bar_names_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "console", terminal)
    with progress.track("networks", 2) as track:
        track.advance("convnet 90 %")
    said = terminal.file.getvalue()
    assert "took" in said
    assert "left" in said
