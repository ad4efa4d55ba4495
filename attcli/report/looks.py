"""How plots look: colours on a light and on a dark page, and figures as bytes."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.5
"""Inches: a plot stays legible on a phone, and three stand side by side on a desktop."""


@dataclass(frozen=True)
class Theme:
    """The colours of a page, as its style sheet has them too."""

    surface: str
    ink: str
    muted: str
    line: str
    own: str
    average: str
    published: str
    runs: tuple[str, ...]
    """One colour for each run of a comparison, in turn."""


LIGHT = Theme(
    surface="#ffffff",
    ink="#1b1d22",
    muted="#616875",
    line="#dfe2e8",
    own="#2457d6",
    average="#0b8a7d",
    published="#b4610a",
    runs=("#2457d6", "#c2410c", "#0b8a7d", "#9333b8", "#8a6d00", "#be185d"),
)
DARK = Theme(
    surface="#191c22",
    ink="#e9ebf0",
    muted="#9ba4b4",
    line="#333945",
    own="#7ea6ff",
    average="#4fd1bf",
    published="#f2a65a",
    runs=("#7ea6ff", "#ff9466", "#4fd1bf", "#d69bf5", "#e3c34a", "#ff8ab8"),
)


@dataclass(frozen=True)
class Drawn:
    """A plot as a PNG and an SVG for light pages, and an SVG for dark ones; what it shows, in words; its size.

    `size` is in pixels of a page: width and height.
    """

    title: str
    says: str
    png: bytes
    light: bytes
    dark: bytes
    size: tuple[int, int]


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    """The parameters of matplotlib: text is never taken for mathematics, as names of runs and networks are not ours."""
    from matplotlib import rc_context

    parameters: dict[Any, Any] = {
        "svg.hashsalt": "attcli",
        "text.parse_math": False,
        "font.size": 9.5,
        "figure.facecolor": theme.surface,
        "axes.facecolor": theme.surface,
        "axes.edgecolor": theme.line,
        "axes.labelcolor": theme.muted,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": theme.line,
        "grid.linewidth": 0.7,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
    }
    with rc_context(parameters), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # letters that the font has not are drawn as boxes
        yield


def drawn(title: str, says: str, height: float, draw: Callable[["Axes", Theme], None], width: float = WIDTH) -> Drawn:
    """A plot by a function that draws on axes in the colours of a theme; equal data give equal bytes."""
    from matplotlib.figure import Figure

    contents = {}
    for theme in (LIGHT, DARK):
        with _style(theme):
            figure = Figure(figsize=(width, height), layout="constrained")
            axes = figure.subplots()
            axes.set_title(title)
            draw(axes, theme)
            contents[theme] = _bytes(figure, "svg")
            if theme is LIGHT:
                png = _bytes(figure, "png")
    size = (round(96 * width), round(96 * height))
    return Drawn(title, says, png, contents[LIGHT], contents[DARK], size)


def _bytes(figure: "Figure", kind: str) -> bytes:
    """A figure as a file's content, without a date."""
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(file, format=kind, dpi=200, metadata=metadata)
    return file.getvalue()
