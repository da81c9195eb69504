"""A list in JSON or YAML, read so that no two readers could differ; and the line of each of its entries.

What begins with `[` or `{` is JSON, read fast. The rest is YAML, in the part of it that says what JSON can
say: without tags and aliases; a plain word that some readers take for text and others for a number, a date
or a truth (`no`, `1e3`, `0123`, `2026-01-01`) is refused until somebody has put quotes around it.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import yaml

from argotun.config.values import HIDDEN, Refused, Words, quoted
from argotun.errors import ConfigError

LARGEST_YAML = 1 << 20
"""Characters, as many as a Secret or a ConfigMap can have; JSON may be larger, and is read faster."""

DEEPEST = 16
"""Lists and mappings in each other; an entry has four."""

QUOTES = "quotes around it: without them YAML's readers differ in what it is"

# With libyaml it takes a tenth of the time. As events, since libyaml's trees are built by recursion in C.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_TEXT = "tag:yaml.org,2002:str"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)
# What YAML 1.2 adds to the words that PyYAML knows from YAML 1.1.
_ODD_NUMBER = re.compile(r"[-+]?(?:0o[0-7]+|\.?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?)", re.ASCII)
_PLAIN: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_implied: Callable[..., str] = yaml.resolver.Resolver().resolve


Entries = TypeVar("Entries")


class Listed(NamedTuple):
    """The entries of a list; `lines()` gives the line of each, counted from 1."""

    entries: Any
    lines: Callable[[], list[int]]


def text_of(read: Callable[[], bytes], option: str, path: str, wrong: type[ConfigError]) -> str:
    """The text of a file that `option` names, as `read` gives its bytes.

    Raises `wrong` where it cannot be read (`read` raises OSError) or is not in UTF-8.
    """
    try:
        return read().decode("utf-8")
    except OSError as error:
        raise wrong(option, path, f"a readable file ({error.strerror})") from None
    except UnicodeDecodeError:
        raise wrong(option, path, "a file in UTF-8") from None


def read_list(text: str, where: str, expected: str, error: type[ConfigError]) -> Listed:
    """The list that a text holds; raises `error`, which names the place behind `where` and repeats no value.

    `expected` says what list.
    """
    try:
        listed = (_json if text.lstrip(" \t\r\n")[:1] in ("[", "{") else _yaml)(text)
    except _Misplaced as wrong:
        raise error(f"{where}: {wrong.place}", wrong.shown, str(wrong)) from None
    except Refused as refused:
        raise error(where, refused.shown, str(refused)) from None
    found = listed.entries
    if not isinstance(found, list):
        # A chart's values have it so.
        inside = isinstance(found, dict) and len(found) == 1 and isinstance(next(iter(found.values())), list)
        raise error(
            where, HIDDEN, f"{expected}: the list alone, without a key before it" if inside else expected
        )
    return listed


def read_entries(
    text: str,
    where: str,
    expected: str,
    error: type[ConfigError],
    read: Callable[[list[Any], list[int]], Entries],
) -> Entries:
    """What `read` makes of the entries of a list; it is given their lines once something is wrong in them.

    Raises `error`, as `read_list` and `read` do.
    """
    listed = read_list(text, where, expected, error)
    try:
        return read(listed.entries, [])
    except error:
        # Looked for once more, to say where it stands.
        return read(listed.entries, listed.lines() if "\n" in text else [])


def place(name: str, index: int, lines: list[int]) -> str:
    """An entry as errors name it: its number, and its line where that is known."""
    return f"{name}[{index}], line {lines[index]}" if lines else f"{name}[{index}]"


class _Misplaced(Refused):
    """A Refused of one place in the text."""

    def __init__(self, place: str, expected: str, shown: str = HIDDEN) -> None:
        super().__init__(expected, shown)
        self.place = place


# ── JSON ───────────────────────────────────────────────────────────────────────────────────────


def _json(text: str) -> Listed:
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        # Pythons before 3.13 speak of the bracket after it.
        comma = error.pos if text[error.pos : error.pos + 1] == "," else len(text[: error.pos].rstrip()) - 1
        closing = re.compile(r",\s*([]}])").match(text, max(comma, 0))
        if closing:
            error = json.JSONDecodeError(f"a comma before {closing[1]}", text, comma)
        raise _Misplaced(f"line {error.lineno}, column {error.colno}", f"JSON ({error.msg})") from None
    except Refused:
        raise
    except (ValueError, RecursionError):
        raise Refused("JSON without numbers or nesting out of all proportion", HIDDEN) from None
    return Listed(value, lambda: _json_lines(text))


def _json_lines(text: str) -> list[int]:
    """The line of each entry of a list that is known to be sound."""
    decode = json.JSONDecoder().raw_decode
    blank = re.compile(r"[\s,]*")
    lines: list[int] = []
    seen, line, at = 0, 1, blank.match(text, text.index("[") + 1).end()  # type: ignore[union-attr]
    while text[at] != "]":
        line += text.count("\n", seen, at)
        seen = at
        lines.append(line)
        at = blank.match(text, decode(text, at)[1]).end()  # type: ignore[union-attr]
    return lines


def _distinct(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object without duplicate keys, since JSON parsers disagree about which one wins."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused("each key once in an object", Words(repr(quoted(twice))))
    return found


def _refuse_constant(name: str) -> None:
    """NaN and the infinities are no JSON."""
    raise Refused("JSON, which has no such number", Words(name))


# ── YAML ───────────────────────────────────────────────────────────────────────────────────────


def _yaml(text: str) -> Listed:
    if len(text) > LARGEST_YAML:
        expected = f"at most {LARGEST_YAML} characters of YAML; JSON may be larger"
        raise Refused(expected, Words("a file of this size"))
    tree = _Tree(yaml.parse(text, Loader=_LOADER))
    try:
        return Listed(tree.read(), lambda: tree.lines)
    except yaml.MarkedYAMLError as error:
        # The library's own words may quote what is there.
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "some line"
        raise _Misplaced(place, "YAML or JSON") from None
    except yaml.YAMLError:
        raise Refused("YAML without control characters", HIDDEN) from None


class _Tree:
    """What the events of one text stand for; `lines` has those where the entries of its list begin."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self.lines: list[int] = []
        self._events = events

    def read(self) -> Any:
        """The value of the one document; None where there is none."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        value = self._value(next(self._events), 0)
        next(self._events)
        if not isinstance(more := next(self._events), yaml.StreamEndEvent):
            raise _Misplaced(_line(more), "one document", Words("a second one"))
        return value

    def _value(self, event: yaml.Event, depth: int) -> Any:
        if depth > DEEPEST:
            raise _Misplaced(_line(event), "no nesting out of all proportion")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) not in (None, _TEXT):
            raise _Misplaced(_line(event), "a value without a tag, and no alias")
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(depth)
        found = []
        while not isinstance(each := next(self._events), yaml.SequenceEndEvent):
            if not depth:
                self.lines.append(_number(each))
            found.append(self._value(each, depth + 1))
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(key := next(self._events), yaml.MappingEndEvent):
            name = self._value(key, depth + 1)
            if not isinstance(name, str):
                raise _Misplaced(_line(key), "a word as key, in quotes where it could be something else")
            if name in found:
                raise _Misplaced(_line(key), "each key once in a mapping", Words(repr(quoted(name))))
            found[name] = self._value(next(self._events), depth + 1)
        return found


_BLOCKS = ("|", ">")
"""Styles of text over several lines, which a cluster's public keys may have."""


def _scalar(event: yaml.ScalarEvent) -> str | bool | int | float | None:
    text = str(event.value)
    begin, end = event.start_mark, event.end_mark
    keys = event.style in _BLOCKS and text.startswith("{")
    if not keys and begin and end and begin.line != end.line:
        # Without its closing quote it would go on to the next one, over tokens that errors then show.
        raise _Misplaced(
            _line(event), "a text that ends on its line, as one without its closing quote does not"
        )
    if event.style or event.tag:
        return text
    if text in _PLAIN:
        return _PLAIN[text]
    if number := _NUMBER.fullmatch(text):
        return float(text) if number[1] else int(text)
    if _ODD_NUMBER.fullmatch(text) or _implied(yaml.ScalarNode, text, (True, False)) != _TEXT:
        # A token may look like a number.
        raise _Misplaced(_line(event), QUOTES, Words(repr(text)) if text.isalpha() else HIDDEN)
    return text


def _line(event: yaml.Event) -> str:
    return f"line {_number(event)}"


def _number(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
