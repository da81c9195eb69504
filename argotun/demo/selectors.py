"""Label and field selectors: text from a query into a predicate over objects."""

import re
from collections.abc import Callable

from argotun.demo.refusal import bad_request
from argotun.demo.resources import Json

Predicate = Callable[[Json], bool]

_KEY = r"[A-Za-z0-9][A-Za-z0-9_./-]*"
_VALUE = r"[A-Za-z0-9_.-]*"
_REQUIREMENT = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<a>{_KEY})"
    rf"|(?P<s>{_KEY})\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
    rf"|(?P<k>{_KEY})\s*(?P<op>==|=|!=)\s*(?P<value>{_VALUE})"
    rf"|(?P<present>{_KEY}))\s*(?:,|$)"
)


def labels(text: str) -> Predicate:
    """The predicate of a label selector: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b)`, `a`, `!a`.

    Raises a 400 Refusal for anything else.
    """
    tests: list[Callable[[Json], bool]] = []
    at = 0
    while at < len(text):
        match = _REQUIREMENT.match(text, at)
        if match is None or match.end() == at:
            raise bad_request(f"unable to parse requirement: {text[at:]!r}")
        tests.append(_requirement(match))
        at = match.end()

    def matches(obj: Json) -> bool:
        found = obj["metadata"].get("labels") or {}
        return all(test(found) for test in tests)

    return matches


def _requirement(match: re.Match[str]) -> Callable[[Json], bool]:
    if match["absent"]:
        absent = match["a"]
        return lambda found: absent not in found
    if match["present"]:
        present = match["present"]
        return lambda found: present in found
    if match["set"]:
        key, wanted = match["s"], {value.strip() for value in match["values"].split(",")}
        negated = match["set"] == "notin"
    else:
        key, wanted = match["k"], {match["value"]}
        negated = match["op"] == "!="
    if negated:
        return lambda found: found.get(key) not in wanted
    return lambda found: found.get(key) in wanted


def fields(text: str) -> Predicate:
    """The predicate of a field selector: `metadata.name=x`, any dotted path, `=`, `==` and `!=`.

    Kubernetes indexes a few fields per kind and refuses others; the stand-in takes every path.
    """
    tests: list[tuple[list[str], bool, str]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([A-Za-z0-9.]+)(==|!=|=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid field selector: {part!r}")
        tests.append((match[1].split("."), match[2] != "!=", match[3]))

    def matches(obj: Json) -> bool:
        return all((_text_at(obj, path) == value) is equal for path, equal, value in tests)

    return matches


def _text_at(obj: object, path: list[str]) -> str:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return "" if obj is None else str(obj)


def both(label_text: str, field_text: str) -> Predicate:
    """Objects that a label selector and a field selector both choose; empty text chooses all."""
    by_label, by_field = labels(label_text), fields(field_text)
    return lambda obj: by_label(obj) and by_field(obj)
