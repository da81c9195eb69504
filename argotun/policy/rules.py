"""Rules over requests, compiled into tables: the first rule that holds decides.

Theory of operation
-------------------

A rule says yes or no to requests of which each of its conditions holds; a condition is a list of values, or
`except` a list. Asking them one after the other would cost by the rule. So the question is turned around: for
each thing that a rule may ask about (verb, group, resource, …) a `Column` knows, for each value, the set of
rules that this value suits. A set is an int with a bit for each rule, the first rule's lowest. A decision is
the intersection of the columns' sets, and its lowest bit.

Not everything is known of a request: a list over all namespaces touches each of them, a create tells its
name in a body that nobody reads here, an older server tells no caller. A deny holds for what a request *may*
touch, an allow only for what it *surely* touches. So there every deny that asks holds, and no allow.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from argotun.policy.requestinfo import NotCanonical, RequestInfo, impersonations, request_info

NOT_CANONICAL = "not-canonical"
"""Named in place of a rule where a target could be read in two ways."""

DEFAULT = "default"
"""Named in place of a rule where none holds."""


ANY = ("*",)
"""The values of a condition that everything suits, known or not."""


class Condition(NamedTuple):
    """One of `values`, or none of them where `negated`; one that ends in `*` is a beginning."""

    values: tuple[str, ...]
    negated: bool = False


class Rule(NamedTuple):
    """One rule; a condition that is None asks nothing.

    `resources`, `groups`, `namespaces` and `names` are about resources only, `paths` about anything else; a
    resource is `pods`, `pods/exec`, `pods/*` (each subresource), `*/exec` or `*`.
    """

    name: str
    allow: bool
    verbs: Condition | None = None
    groups: Condition | None = None
    resources: Condition | None = None
    namespaces: Condition | None = None
    names: Condition | None = None
    paths: Condition | None = None
    callers: Condition | None = None
    upgrade: bool | None = None


class Decision(NamedTuple):
    """What a policy says to a request.

    `rule` is a rule's name, DEFAULT or NOT_CANONICAL; `what` is the request, or what its target has.
    """

    allowed: bool
    rule: str
    what: str | RequestInfo


class Column:
    """For the values of one condition the rules, as bits, that each value suits.

    `unknown` are those that a value which nobody knows suits.
    """

    __slots__ = ("_begin", "_exact", "_flipped", "_starts", "unknown")

    def __init__(self, rules: Sequence[Rule], conditions: Sequence[Condition | None]) -> None:
        self.unknown = 0
        self._flipped = 0
        self._exact: dict[str, int] = {}
        begin: dict[str, int] = {}
        for at, (rule, condition) in enumerate(zip(rules, conditions, strict=True)):
            bit = 1 << at
            if condition is None or not rule.allow or (condition.values == ANY and not condition.negated):
                self.unknown |= bit
            if condition is None or condition.negated:
                self._flipped |= bit
            for value in condition.values if condition is not None else ():
                table, key = (begin, value[:-1]) if value.endswith("*") else (self._exact, value)
                table[key] = table.get(key, 0) | bit
        self._begin = tuple(begin.items())
        self._starts = tuple(begin)

    def suits(self, value: str) -> int:
        """The rules that `value` suits."""
        hit = self._exact.get(value, 0)
        if self._starts and value.startswith(self._starts):
            for start, bits in self._begin:
                if value.startswith(start):
                    hit |= bits
        # An exception holds where its values do not; no condition is one without exceptions.
        return hit ^ self._flipped


class Resources:
    """As Column, for a resource and its subresource."""

    __slots__ = ("_every", "_exact", "_flipped")

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._flipped = 0
        self._every = 0
        self._exact: dict[tuple[str, str], int] = {}
        for at, rule in enumerate(rules):
            condition, bit = rule.resources, 1 << at
            if condition is None or condition.negated:
                self._flipped |= bit
            for value in condition.values if condition is not None else ():
                if value == "*":
                    self._every |= bit
                    continue
                resource, _, subresource = value.partition("/")
                self._exact[resource, subresource] = self._exact.get((resource, subresource), 0) | bit

    def suits(self, resource: str, subresource: str) -> int:
        """The rules that a resource, with or without a subresource, suits."""
        exact = self._exact
        hit = self._every | exact.get((resource, subresource), 0)
        if subresource:
            hit |= exact.get((resource, "*"), 0) | exact.get(("*", subresource), 0)
        return hit ^ self._flipped


class Policy:
    """Rules in their order, and what is said where none of them holds."""

    __slots__ = (
        "_callers",
        "_groups",
        "_names",
        "_namespaces",
        "_of_paths",
        "_of_resources",
        "_paths",
        "_resources",
        "_upgrading",
        "_verbs",
        "_without_upgrade",
        "default",
        "rules",
    )

    def __init__(self, rules: Sequence[Rule], default: bool) -> None:
        self.rules = tuple(rules)
        self.default = default
        self._verbs = Column(rules, [rule.verbs for rule in rules])
        self._groups = Column(rules, [rule.groups for rule in rules])
        self._resources = Resources(rules)
        self._namespaces = Column(rules, [rule.namespaces for rule in rules])
        self._names = Column(rules, [rule.names for rule in rules])
        self._paths = Column(rules, [rule.paths for rule in rules])
        self._callers = Column(rules, [rule.callers for rule in rules])
        self._upgrading = _bits(rule.upgrade is not False for rule in rules)
        self._without_upgrade = _bits(rule.upgrade is not True for rule in rules)
        self._of_resources = _bits(rule.paths is None for rule in rules)
        self._of_paths = _bits(
            not (rule.groups or rule.resources or rule.namespaces or rule.names) for rule in rules
        )

    def judge(
        self, method: bytes, target: bytes, fields: bytes = b"", caller: str = "", upgrade: bool = False
    ) -> Decision:
        """What this policy says to a request.

        `target` is in origin-form, `fields` are the head's lines; `caller` is "" where nobody said who asks,
        and `upgrade` whether the request asks for another protocol.
        """
        try:
            info = request_info(method, target)
        except NotCanonical as error:
            return Decision(False, NOT_CANONICAL, str(error))
        others = impersonations(fields, info.path)
        if info.path.endswith("/") and not info.resource_request and info.path != "/":
            # Generated clients write `/apis/`, and it is answered as `/apis` is: both must be allowed.
            others.append(info._replace(path=info.path[:-1]))
        for other in others:
            decision = self.decide(other, caller, upgrade)
            if not decision.allowed:
                return decision
        return self.decide(info, caller, upgrade)

    def decide(self, info: RequestInfo, caller: str, upgrade: bool) -> Decision:
        """What the rules say to a request that is known."""
        left = self._upgrading if upgrade else self._without_upgrade
        left &= self._verbs.suits(info.verb)
        left &= self._callers.suits(caller) if caller else self._callers.unknown
        if info.resource_request:
            left &= self._of_resources & self._resources.suits(info.resource, info.subresource)
            left &= self._groups.suits(info.group)
            left &= self._names.suits(info.name) if info.name else self._names.unknown
            if info.namespace or not info.several:
                left &= self._namespaces.suits(info.namespace)
            else:
                left &= self._namespaces.unknown
        else:
            left &= self._of_paths & self._paths.suits(info.path)
        if not left:
            return Decision(self.default, DEFAULT, info)
        rule = self.rules[(left & -left).bit_length() - 1]
        return Decision(rule.allow, rule.name, info)


def _bits(truths: Iterable[bool]) -> int:
    return sum(1 << at for at, true in enumerate(truths) if true)
