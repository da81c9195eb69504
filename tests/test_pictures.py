"""The pictures in docs say in words what they show, ask for nothing, and can be read on a telephone."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.browser import MISSING, PROGRAM, Browser

ROOT = Path(__file__).resolve().parents[1]
PICTURES = sorted((ROOT / "docs").glob("**/*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
NARROW = 360
"""Pixels of a narrow screen."""

SMALLEST = 10
"""Pixels of a text's height there."""

each_picture = pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
in_browser = pytest.mark.skipif(PROGRAM is None, reason=MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def test_there_are_pictures_of_the_way_the_layers_and_a_request() -> None:
    assert {"data-path.svg", "layers.svg", "request.svg"} <= {path.name for path in PICTURES}


@each_picture
def test_a_picture_says_in_words_what_it_shows(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    for name, words in (("title", 3), ("desc", 15)):
        found = root.find(f"{SVG}{name}")
        assert found is not None
        assert len((found.text or "").split()) >= words
        assert found.get("id") in (root.get("aria-labelledby") or "").split()
    assert root.get("role") == "img"


@each_picture
def test_a_picture_runs_nothing_and_asks_for_nothing(picture: Path) -> None:
    text = picture.read_text("utf-8").replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"://|@import|@font-face|<script|<image|<foreignObject|href|\son\w+=", text)
    assert not re.search(r"url\((?!#)", text)


@each_picture
def test_a_picture_stands_in_a_document_with_words_in_its_place(picture: Path) -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    shown = [
        alternative
        for document in documents
        for alternative, link in re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", document.read_text("utf-8"))
        if (document.parent / link).resolve() == picture
    ]
    assert shown
    assert all(len(alternative.split()) >= 8 for alternative in shown)


@in_browser
@each_picture
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_picture_can_be_read_on_a_narrow_screen(browser: Browser, picture: Path, dark: bool) -> None:
    page = browser.open(picture.as_uri(), width=NARROW, dark=dark)
    seen = page.value(LOOK)
    assert seen["texts"]
    assert seen["height"] * min(1, NARROW / seen["width"]) >= SMALLEST
    assert seen["outside"] == []
    assert seen["overlapping"] == []
    assert seen["faint"] == []
    assert (seen["ground"] < 80) is dark
    assert page.problems() == []


LOOK = """(() => {
  const texts = [...document.querySelectorAll("text")];
  const boxes = texts.map(text => text.getBoundingClientRect());
  const all = document.documentElement.getBoundingClientRect();
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
    return 0.299 * parts[0] + 0.587 * parts[1] + 0.114 * parts[2];
  };
  const fill = element => light(getComputedStyle(element).fill);
  const within = (a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom;
  const beside = (a, b) => a.right <= b.left || a.bottom <= b.top + 2;
  const apart = (a, b) => beside(a, b) || beside(b, a);
  const grounds = [...document.querySelectorAll("rect")];
  const below = box => {
    const under = grounds.filter(each => within(box, each.getBoundingClientRect()));
    return under.length ? fill(under.at(-1)) : -1;
  };
  const say = index => texts[index].textContent;
  const pairs = texts.flatMap((_, one) => texts.slice(0, one).map((_, two) => [one, two]));
  return {
    texts: texts.length,
    width: document.documentElement.viewBox.baseVal.width,
    height: Math.min(...texts.map(text => parseFloat(getComputedStyle(text).fontSize))),
    outside: boxes.flatMap((box, index) => within(box, all) ? [] : [say(index)]),
    overlapping: pairs.filter(([one, two]) => !apart(boxes[one], boxes[two])).map(pair => pair.map(say)),
    faint: texts.map((_, index) => index)
      .filter(index => Math.abs(fill(texts[index]) - below(boxes[index])) < 80).map(say),
    ground: fill(grounds[0]),
  };
})()"""
