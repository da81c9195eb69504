"""The customer's policy in force: re-read when its file changes, the last good one kept, refusals told."""

import logging

from argotun.config.documents import text_of
from argotun.errors import PolicyError
from argotun.files import Trouble, Watched
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.observe.request import Request
from argotun.policy.grammar import OPTION, parse_policy
from argotun.policy.rules import DEFAULT, NOT_CANONICAL, Decision, Policy
from argotun.seldom import Seldom
from argotun.wire.head import RequestHead

log = logging.getLogger("argotun.agent")

LARGEST_FILE = 64 * 1024
"""Bytes, some 250 rules; this process stands still while it reads YAML."""

LINES = 20
"""Lines about refusals in a second; whoever asks decides how many there would be."""

REFUSES = "the policy refuses a request"


class PolicyFile:
    """The policy in a file that its owner may change at any time.

    `problem` says why a newer version cannot be used, "" where the file's own is in force.
    """

    def __init__(self, path: str, metrics: AgentMetrics) -> None:
        """Read it for the first time; raises PolicyError."""
        self._file = Watched(path, LARGEST_FILE)
        self._metrics = metrics
        self._trouble = Trouble(log, lambda: metrics.reload_errors("policy"))
        self._text: str | None = None
        self._policy: Policy
        self._seldom = Seldom(log, most=LINES, seconds=1.0)
        self.problem = ""
        self._read()

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._file.path

    @property
    def rules(self) -> int:
        """How many rules are in force."""
        return len(self._policy.rules)

    def refuses(self, method: bytes, target: bytes, upgrade: bool = False) -> bool:
        """Whether such a request would be refused, of a caller that nobody names; not counted or logged."""
        return not self._policy.judge(method, target, upgrade=upgrade).allowed

    def refresh(self) -> None:
        """Look at the file, and read it when it is another version; never raises."""
        if not self._file.changed():
            return
        try:
            self._read()
        except PolicyError as error:
            self.problem = str(error)
            self._trouble.begin(self.problem, "the policy read before stays in force")
        else:
            self.problem = ""
            self._trouble.end(f"the policy file {self.path}")
        self._metrics.policy_outdated = 1 if self.problem else 0

    def refusal(self, head: RequestHead, request: Request) -> str:
        """Why this request is refused, in words for its client; "" where it is not. Counted and logged."""
        decision = self._policy.judge(
            head.method, head.target, head.fields, request.caller, head.upgrade is not None
        )
        if decision.allowed:
            return ""
        self._metrics.policy_refused(decision.rule)
        facts = fields(
            rule=decision.rule,
            request=str(decision.what),
            caller=request.caller or "-",
            audit_id=request.audit_id.decode("ascii", "replace") or "-",
        )
        self._seldom.say(logging.WARNING, REFUSES, REFUSES, extra=facts)
        return in_words(decision)

    def close(self) -> None:
        """Count at once the refusals that had no line."""
        self._seldom.close()

    def _read(self) -> None:
        """Read the file and use it, unless these very bytes are in force; raises PolicyError."""
        text = text_of(self._file.read, OPTION, self.path, PolicyError)
        if text == self._text:
            return
        self._policy = parse_policy(text, self.path)
        self._text = text
        self._metrics.policy_rules([*(rule.name for rule in self._policy.rules), DEFAULT, NOT_CANONICAL])
        log.info("a policy is in force", extra=fields(file=self.path, rules=self.rules))


def read_policy(path: str) -> Policy:
    """The policy in a file; raises PolicyError."""
    return parse_policy(text_of(Watched(path, LARGEST_FILE).read, OPTION, path, PolicyError), path)


def in_words(decision: Decision) -> str:
    """A refusal as its client reads it."""
    if decision.rule == NOT_CANONICAL:
        return f"the policy of this cluster's agent takes no target that has {decision.what}"
    rule = "no rule allows it" if decision.rule == DEFAULT else f"rule {decision.rule}"
    return f"the policy of this cluster's agent forbids {decision.what} ({rule})"
