"""The grammar of a policy file: YAML, read strictly, with a sentence about what is wrong and where."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from argotun.config.values import HIDDEN, Words, nearest, quoted
from argotun.errors import PolicyError
from argotun.policy.presets import PRESETS
from argotun.policy.rules import ANY, DEFAULT, NOT_CANONICAL, Condition, Policy, Rule

OPTION = "--policy"

MOST_RULES = 256
"""Of one file; each decision handles sets of that many bits, and each rule may be a series of a metric."""

MOST_NODES = 20_000
"""Values, lists and mappings of one file, counted where they are used: an alias may stand for many."""

VERBS = (
    *("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"),
    *("proxy", "impersonate", "head", "post", "put", "options"),
)
"""What RequestInfo calls a request, and the methods of one that is for no resource."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_GROUP = re.compile(r"(?:[a-z0-9][a-z0-9.-]*)?|\*")
_RESOURCE = re.compile(r"\*|(?:[a-z0-9][a-z0-9.-]*|\*(?=/[^*]))(?:/(?:[A-Za-z0-9][A-Za-z0-9._:-]*|\*))?")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]*\*?|\*")
_TEXT = re.compile(r"[^\x00-\x1f\x7f*]+\*?|\*")
_PATH = re.compile(r"/[^\x00-\x1f\x7f*?#]*\*?|\*")

_LISTS: dict[str, tuple[str, re.Pattern[str], str]] = {
    "verbs": ("verbs", re.compile("|".join((*VERBS, r"\*"))), "a verb: " + ", ".join((*VERBS, "*"))),
    "apiGroups": ("groups", _GROUP, 'an API group without a version, such as apps, or "" for the core'),
    "resources": (
        "resources",
        _RESOURCE,
        "a resource in lower case and the plural, such as pods, pods/exec, pods/*, */exec or *",
    ),
    "namespaces": ("namespaces", _NAMESPACE, "a namespace, or its beginning and *"),
    "resourceNames": ("names", _TEXT, "an object's name, or its beginning and *"),
    "nonResourceURLs": ("paths", _PATH, "a path such as /version, or its beginning and *"),
    "callers": ("callers", _TEXT, "a caller's name, or its beginning and *"),
}
"""Key of a condition → field of Rule, what a value may be, and how that is said."""

_OF_RESOURCES = ("apiGroups", "resources", "namespaces", "resourceNames")
_CONDITIONS = (*_LISTS, "upgrade")
_EFFECTS = {"allow": True, "deny": False}
_DEFAULTS = tuple(_EFFECTS)


def parse_policy(text: str, source: str = "") -> Policy:
    """The policy that a file's `text` says; raises PolicyError with the entry and what is expected.

    `source` names the file in that.
    """
    where = f"{OPTION} {source}".rstrip()
    root = _mapping(where, _plain(where, text), ("presets", "rules", "default"))
    presets = root.get("presets", [])
    if isinstance(presets, str):
        presets = [presets]
    if not isinstance(presets, list):
        raise _wrong(f"{where}, presets", presets, "a preset's name or a list of such")
    for at, preset in enumerate(presets):
        if not isinstance(preset, str) or preset not in PRESETS:
            raise _wrong(f"{where}, presets[{at}]", preset, f"one of {', '.join(PRESETS)}")
    entries = root.get("rules", [])
    if not isinstance(entries, list):
        raise _wrong(f"{where}, rules", entries, "a list of rules")
    if len(entries) > MOST_RULES:
        raise _wrong(f"{where}, rules", Words(f"{len(entries)} rules"), f"at most {MOST_RULES}")
    if not presets and not entries:
        raise PolicyError(where, Words("a policy without rules"), "presets or rules")
    rules: list[Rule] = []
    for at, entry in enumerate(entries):
        rule = _rule(f"{where}, rules[{at}]", entry)
        if rule.name in (DEFAULT, NOT_CANONICAL) or any(rule.name == other.name for other in rules):
            raise _wrong(f"{where}, rules[{at}], name", rule.name, "a name that nothing else has")
        rules.append(rule)
    default = root.get("default")
    if default not in _DEFAULTS and (default is not None or entries):
        raise _wrong(f"{where}, default", default, "allow or deny, for what no rule decides")
    for preset in dict.fromkeys(presets):
        rules += preset_rules(preset)
    return Policy(rules, default != "deny")


def preset_rules(preset: str) -> list[Rule]:
    """The rules of a preset, each named `PRESET/NAME`."""
    entries = _plain(preset, PRESETS[preset]) or []
    return [rule._replace(name=f"{preset}/{rule.name}") for rule in (_rule(preset, each) for each in entries)]


def _rule(where: str, entry: Any) -> Rule:
    if not isinstance(entry, dict):
        raise _wrong(where, entry, "a rule such as {name: no-exec, deny: {resources: [pods/exec]}}")
    if isinstance(entry.get("name"), str):
        where += f" (name {quoted(entry['name'])!r})"
    entry = _mapping(where, entry, ("name", *_EFFECTS))
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(f"{where}, name", name, "1 to 63 lower-case letters, digits and dashes")
    given = [effect for effect in _EFFECTS if effect in entry]
    if not given:
        raise PolicyError(f"{where}, allow or deny", None, "one of them")
    if len(given) > 1:
        raise PolicyError(where, Words(" and ".join(given)), "one of them")
    effect = given[0]
    where += f", {effect}"
    asked = _mapping(where, entry[effect] if entry[effect] != "" else {}, _CONDITIONS)
    if "nonResourceURLs" in asked and (other := next((key for key in _OF_RESOURCES if key in asked), None)):
        raise PolicyError(where, Words(f"nonResourceURLs beside {other}"), "one of them: no request has both")
    conditions: dict[str, Any] = {
        _LISTS[key][0]: _condition(f"{where}, {key}", value, *_LISTS[key][1:])
        for key, value in asked.items()
        if key in _LISTS
    }
    return Rule(name, _EFFECTS[effect], upgrade=_switch(f"{where}, upgrade", asked), **conditions)


def _condition(where: str, value: Any, pattern: re.Pattern[str], expected: str) -> Condition:
    negated = isinstance(value, dict)
    if negated:
        where += ", except"
        value = _mapping(where, value, ("except",)).get("except")
    if not isinstance(value, list) or not value:
        raise _wrong(where, value, "a list of at least one, or {except: [...]}")
    for at, each in enumerate(value):
        if not isinstance(each, str) or not pattern.fullmatch(each) or (negated and each == "*"):
            raise _wrong(f"{where}[{at}]", each, expected)
    return Condition(ANY if "*" in value else tuple(value), negated)


def _switch(where: str, asked: Mapping[str, Any]) -> bool | None:
    if "upgrade" not in asked:
        return None
    if asked["upgrade"] not in ("true", "false"):
        raise _wrong(where, asked["upgrade"], "true or false")
    return bool(asked["upgrade"] == "true")


def _mapping(where: str, value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    """`value` as a mapping of no other keys; raises PolicyError."""
    if not isinstance(value, dict):
        raise _wrong(where, value, f"a mapping of {', '.join(keys)}")
    for key in value:
        if key not in keys:
            close = nearest(key, keys)
            hint = (
                f"{close}, probably; the keys are {', '.join(keys)}" if close else f"one of {', '.join(keys)}"
            )
            raise PolicyError(f"{where}, {quoted(key)}", Words("this key"), hint)
    return value


def _wrong(where: str, value: Any, expected: str) -> PolicyError:
    if not value and not isinstance(value, str):
        return PolicyError(where, None, expected)
    if isinstance(value, dict | list):
        value = Words("a mapping" if isinstance(value, dict) else "a list")
    return PolicyError(where, value if isinstance(value, Words) else quoted(value), expected)


# ── YAML ───────────────────────────────────────────────────────────────────────────────────────


def _plain(where: str, text: str) -> Any:
    """The file as text, lists and dicts; raises PolicyError."""
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        return _value(where, root, _Budget()) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PolicyError(where + place, HIDDEN, f"YAML ({error.problem or 'malformed'})") from None
    except (yaml.YAMLError, RecursionError):
        raise PolicyError(where, HIDDEN, "a YAML file without nesting out of all proportion") from None


class _Budget:
    """How many values are left to read."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MOST_NODES

    def take(self, where: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise PolicyError(where, Words("a file of so many values"), f"at most {MOST_NODES}")


def _value(where: str, node: yaml.Node, budget: _Budget) -> Any:
    budget.take(where)
    if isinstance(node, yaml.SequenceNode):
        return [_value(where, each, budget) for each in node.value]
    if not isinstance(node, yaml.MappingNode):
        return str(node.value)
    found: dict[str, Any] = {}
    for key, value in node.value:
        place = f"{where}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise PolicyError(place, Words("a list or mapping as key"), "a word")
        if key.value in found:
            raise PolicyError(place, str(key.value), "each key once")
        found[str(key.value)] = _value(where, value, budget)
    return found
