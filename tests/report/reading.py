"""A page as a program reads it: balanced tags, and what it refers to."""

import base64
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from xml.etree import ElementTree

from PIL import Image

VOID = {"meta", "link", "img", "input", "source", "br"}
REFERS = ("src", "srcset", "href", "action", "data", "poster", "background", "ping")


@dataclass
class Page(HTMLParser):
    """What a page holds. AssertionError where its tags do not close in turn, or an id stands twice."""

    text: str
    open: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    refers: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()
        assert not self.open
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.refers += [value or "" for name, value in attrs if name in REFERS]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.words += [value or "" for name, value in attrs if name in ("alt", "title")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def says(self) -> str:
        """All words, in one line."""
        return " ".join(" ".join(self.words).split())

    def pictures(self) -> list[Image.Image]:
        """The decoded PNGs; the SVGs are parsed too."""
        images = []
        for reference in self.refers:
            kind, _, content = reference.partition(";base64,")
            decoded = base64.b64decode(content, validate=True)
            if kind == "data:image/png":
                image = Image.open(io.BytesIO(decoded))
                image.load()
                images.append(image)
            elif kind == "data:image/svg+xml":
                assert ElementTree.fromstring(decoded).tag.endswith("svg")
            else:
                assert reference == "data:,"
        return images


def checked(text: str) -> Page:
    """A page that needs nothing else: all that it refers to is in it, and it runs no program."""
    page = Page(text)
    assert all(reference.startswith("data:") for reference in page.refers)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:", re.sub(r"base64,[A-Za-z0-9+/=]*", "", text))
    assert "script" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on")]
    page.pictures()
    return page
