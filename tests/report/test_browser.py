"""Pages in a real browser: nothing goes wrong, nothing overflows, all images are there, on a phone and on a desktop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from attcli.report import comparison, gather, page, plots
from attcli.report.model import Facts
from tests.report import browser, made

pytestmark = pytest.mark.skipif(browser.executable() is None, reason="no Chromium is installed")

SEEN = """(() => {
  const shown = [...document.images].filter(image => image.checkVisibility());
  const beyond = [...document.querySelectorAll("main *")].filter(element =>
    !element.closest(".wide") && element.checkVisibility() && element.getBoundingClientRect().right > innerWidth + 0.5);
  return {
    overflow: document.documentElement.scrollWidth - innerWidth,
    beyond: beyond.map(element => element.outerHTML.slice(0, 80)),
    shown: shown.length,
    broken: shown.filter(image => !image.complete || !image.naturalWidth).length,
    flat: shown.filter(image => image.getBoundingClientRect().height < 8).length,
    scripts: document.scripts.length,
    title: document.title,
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    plot: document.querySelector("picture img")?.currentSrc,
  };
})()"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, facts: Facts, others: dict[str, Path]) -> dict[str, Path]:
    """Pages by name: of a whole run, of hostile names, of many classes, of soft labels, and comparisons."""
    folder = tmp_path_factory.mktemp("pages")
    kinds = {name: gather.facts(path, [], name) for name, path in others.items()}
    runs = {"whole": made.published(facts), "hostile": made.hostile(facts), "many": made.many(facts, 200, 2, 32)}
    texts = {name: page.of_run(run, plots.of_run(run)) for name, run in {**runs, **kinds}.items()}
    for name, compared in {
        "compared": [facts, *kinds.values()],
        "compared-hostile": [made.hostile(facts)] * 8,
    }.items():
        texts[name] = comparison.page_of(compared, comparison.plots_of(compared))
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


NAMES = ["whole", "hostile", "many", "multiformation", "soft", "compared", "compared-hostile"]


@pytest.mark.parametrize(
    ("name", "width"), [*((name, width) for name in NAMES for width in (400, 1400)), ("hostile", 320)]
)
def test_pages_fit_and_show_their_images(name: str, width: int, opened: browser.Page, pages: dict[str, Path]) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        opened.open(pages[name], width, scheme)
        opened.value("[...document.querySelectorAll('details')].forEach(entry => entry.open = true)")
        seen = opened.value(SEEN)
        assert opened.problems() == []
        assert seen["overflow"] <= 0
        assert seen["beyond"] == []
        assert seen["shown"] > 0
        assert (seen["broken"], seen["flat"], seen["scripts"]) == (0, 0, 0)
        assert "taken" not in seen["title"].partition("<")[0]
        grounds.append((sum_of(seen["ground"]), sum_of(seen["ink"]), seen["plot"]))
    light, dark = grounds
    assert light[0] > light[1] + 300  # dark letters on a light ground
    assert dark[1] > dark[0] + 300
    assert light[2] != dark[2]  # the plots change too


def sum_of(colour: str) -> int:
    """Red, green and blue of `rgb(r, g, b)` together."""
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_the_other_variant_is_one_click_away(opened: browser.Page, pages: dict[str, Path]) -> None:
    opened.open(pages["whole"], 400, "light")
    visible = "[...document.querySelectorAll('.sheet')].map(sheet => sheet.checkVisibility())"
    assert opened.value(visible) == [True, False]
    opened.value("document.querySelector('label[for=tab-2]').click()")
    assert opened.value(visible) == [False, True]
    assert opened.value(SEEN)["broken"] == 0
