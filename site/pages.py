"""What the site has beside the documents: the pages at the top of the clone, the examples, and the release.

MkDocs calls what is named `on_…`: https://www.mkdocs.org/dev-guide/plugins/#events
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

CLONE = Path(__file__).resolve().parent.parent
TOP = {"README.md": "index.md"} | {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
"""Pages beside the folder `docs`, and as what the site has them."""

EXAMPLES = sorted(str(path.relative_to(CLONE)) for path in (CLONE / "examples").rglob("*.yaml"))
"""Files that documents link to."""

LINK = re.compile(r"(?<=\]\()[^)\s#]+")
FROM_ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\bsrc=[\"']?(?:https?:)?//|<link[^>]*\bhref=[\"']?(?:https?:)?//"
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Say which release these documents are of."""
    release = re.search(r'__version__ = "(.+)"', (CLONE / "argotun" / "__init__.py").read_text("utf-8"))
    assert release
    config.site_name = f"argotun {release[1]}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from the top of the clone, and the examples as they are."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - without it the rest can be tested

    for name, page in TOP.items():
        files.append(File.generated(config, page, content=led((CLONE / name).read_text("utf-8"))))
    for name in EXAMPLES:
        files.append(File.generated(config, name, abs_src_path=str(CLONE / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead a page's links to where the site has what they are about."""
    return led(markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuse a page that needs something from elsewhere. Raises BuildError."""
    if found := FROM_ELSEWHERE.search(output):
        from mkdocs.exceptions import BuildError  # noqa: PLC0415

        raise BuildError(f"{page.file.src_uri} asks for something from elsewhere: {found[0]}")
    return output


def led(markdown: str) -> str:
    """A text with its links as the site needs them: there all pages are in one folder."""
    return LINK.sub(lambda link: _in_one_folder(link[0]), markdown)


def _in_one_folder(link: str) -> str:
    if "://" in link:
        return link
    target = link.removeprefix("docs/").removeprefix("../")
    return TOP.get(target, target)
