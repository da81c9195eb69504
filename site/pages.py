"""What the site has beside the documents: the pages at the top of the clone, the examples, and the releases.

Each release is a folder of its own, named by its version, beside those that are there already. A page lists
them, and so does a file that the theme's choice of versions reads.

MkDocs calls what is named `on_…`: https://www.mkdocs.org/dev-guide/plugins/#events
"""

from __future__ import annotations

import json
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

VERSION = re.compile(r"\d+\.\d+\.\d+")
INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>argotun</title>
<h1>argotun</h1>
<p>The documents of each release:</p>
<ul>
{versions}</ul>
</html>
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Say which release these documents are of, and build them into its folder."""
    config.site_name = f"argotun {release()}"
    config.site_dir = str(Path(config.site_dir) / release())
    return config


def on_post_build(config: MkDocsConfig) -> None:
    """List the releases."""
    publish(Path(config.site_dir).parent)


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


def release() -> str:
    """The version of these documents."""
    found = re.search(r'__version__ = "(.+)"', (CLONE / "argotun" / "__init__.py").read_text("utf-8"))
    assert found
    return found[1]


def publish(folder: Path) -> None:
    """Write the list of the releases in a folder, the newest first: for people, and for the theme.

    The theme's choice of versions wants the file that mike would write: https://github.com/jimporter/mike
    """
    versions = sorted(
        (
            each.name
            for each in folder.iterdir()
            if VERSION.fullmatch(each.name) and (each / "index.html").exists()
        ),
        key=lambda version: [int(number) for number in version.split(".")],
        reverse=True,
    )
    entries = [{"version": version, "title": version, "aliases": []} for version in versions]
    (folder / "versions.json").write_text(json.dumps(entries), "utf-8")
    lines = "".join(f'<li><a href="{version}/index.html">{version}</a></li>\n' for version in versions)
    (folder / "index.html").write_text(INDEX.format(versions=lines), "utf-8")


def led(markdown: str) -> str:
    """A text with its links as the site needs them: there all pages are in one folder."""
    return LINK.sub(lambda link: _in_one_folder(link[0]), markdown)


def _in_one_folder(link: str) -> str:
    if "://" in link:
        return link
    target = link.removeprefix("docs/").removeprefix("../")
    return TOP.get(target, target)
