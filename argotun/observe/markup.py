"""HTML of texts, pure: all that it did not make itself is escaped, and in one place."""

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *inside: object, **attributes: str | int) -> Markup:
    """One element; whatever is in it is escaped, unless it is Markup. An attribute may end in `_`."""
    return Markup(f"{empty(name, **attributes)}{_join(inside)}</{name}>")


def empty(name: str, /, **attributes: str | int) -> Markup:
    """An element that can have no content (HTML §13.1.2), or the beginning of another one."""
    given = "".join(f' {key.rstrip("_")}="{escape(str(value))}"' for key, value in attributes.items())
    return Markup(f"<{name}{given}>")


def cells(*inside: object) -> list[Markup]:
    """A table's cells."""
    return [tag("td", each) for each in inside]


def begin_table(heads: Iterable[str], kind: str = "") -> Markup:
    """A table up to its rows; `</table>` ends it. `kind` is its class, and a name."""
    row = tag("tr", *(tag("th", head) for head in heads))
    return Markup(f"<table{f' class={kind}' if kind else ''}><thead>{row}</thead>")


def _join(parts: Iterable[object]) -> str:
    return "".join(part if isinstance(part, Markup) else escape(str(part)) for part in parts)
