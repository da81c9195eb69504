"""The documents as a site: each has its place there, and links lead to where the site has what they name.

Whether each link leads somewhere is for `make docs`, which builds it.
"""

import importlib.util
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from argotun import __version__

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
TOP = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md")]
DOCUMENTS = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]

_spec = importlib.util.spec_from_file_location("site_pages", SITE / "pages.py")
assert _spec
assert _spec.loader
pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pages)


def test_every_document_has_its_place_in_the_site() -> None:
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", (SITE / "mkdocs.yml").read_text("utf-8"), re.M)
    assert len(named) == len(set(named))
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | set(pages.TOP.values())
    assert set(named) == there
    assert all((ROOT / name).exists() for name in pages.TOP)


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("docs/install.md", "install.md"),
        ("docs/install.md#a", "install.md#a"),
        ("docs/pictures/layers.svg", "pictures/layers.svg"),
        ("pictures/layers.svg", "pictures/layers.svg"),
        ("../SECURITY.md", "SECURITY.md"),
        ("../README.md#try-it", "index.md#try-it"),
        ("README.md", "index.md"),
        ("#here", "#here"),
        ("https://example.org/docs/x", "https://example.org/docs/x"),
    ],
)
def test_a_link_leads_to_where_the_site_has_the_page(link: str, there: str) -> None:
    assert pages.led(f"a [b]({link}) c (docs/x)") == f"a [b]({there}) c (docs/x)"


class Config:
    """As much of MkDocs' as the pages use."""

    def __init__(self, folder: Path) -> None:
        self.site_dir = str(folder)
        self.site_name = ""


def test_the_site_says_its_release_and_has_a_folder_for_it(tmp_path: Path) -> None:
    config = pages.on_config(Config(tmp_path))
    assert config.site_name == f"argotun {__version__}"
    assert config.site_dir == str(tmp_path / __version__)


def test_a_release_is_listed_beside_those_before_the_newest_first(tmp_path: Path) -> None:
    for name in ("0.9.0", "0.10.0", "0.1.0", "assets", "1.0.0-half", "2.0.0"):
        (tmp_path / name).mkdir()
        if name != "2.0.0":
            (tmp_path / name / "index.html").touch()
    pages.on_post_build(Config(tmp_path / "0.1.0"))
    newest_first = ["0.10.0", "0.9.0", "0.1.0"]
    listed = json.loads((tmp_path / "versions.json").read_text("utf-8"))
    assert [each["version"] for each in listed] == newest_first
    links = re.findall(r'href="(.+?)"', (tmp_path / "index.html").read_text("utf-8"))
    assert links == [f"{version}/index.html" for version in newest_first]


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://cdn.example/x.js"></script>',
        "<script defer src=//cdn.example/x.js></script>",
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<img alt="x" src="http://example.org/badge.svg">',
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_seen(html: str) -> None:
    assert pages.FROM_ELSEWHERE.search(html)


def test_what_a_page_has_beside_it_is_no_fetch_from_elsewhere() -> None:
    html = '<script src="assets/x.js"></script><a href="https://example.org">x</a><img src="a/b.svg">'
    assert not pages.FROM_ELSEWHERE.search(html)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_to_what_the_site_has(document: Path) -> None:
    pictures = {f"pictures/{path.name}" for path in (ROOT / "docs" / "pictures").iterdir()}
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | set(pages.TOP.values()) | pictures
    there |= set(pages.EXAMPLES)
    prose = re.sub(r"^(?: {4}|```).*$", "", document.read_text("utf-8"), flags=re.M)
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", pages.led(prose))}
    assert {link for link in links if link and "://" not in link} <= there


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_to_elsewhere_is_a_whole_address(document: Path) -> None:
    for link in re.findall(r"\]\((\w+:[^)\s]*)\)", document.read_text("utf-8")):
        parts = urlsplit(link)
        assert parts.scheme in ("https", "http"), link
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.hostname or ""), link
        assert "@" not in parts.netloc, link
