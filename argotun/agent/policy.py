"""The customer's policy in force: re-read when its file changes, the last good one kept, refusals told."""

import logging
from time import monotonic

from argotun.errors import PolicyError
from argotun.files import Trouble, Watched
from argotun.observe.logs import fields
from argotun.observe.metrics import AgentMetrics
from argotun.observe.request import Request
from argotun.policy.grammar import OPTION, parse_policy
from argotun.policy.rules import DEFAULT, NOT_CANONICAL, Decision, Policy
from argotun.wire.head import RequestHead

log = logging.getLogger("argotun.agent")

LARGEST_FILE = 64 * 1024
"""Bytes, some 250 rules; this process stands still while it reads YAML."""

LINES = 20
"""Lines about refusals in a second; whoever asks decides how many there would be."""


class PolicyFile:
    """The policy in a file that its owner may change at any time.

    `problem` says why a newer version cannot be used, "" where the file's own is in force.
    """

    def __init__(self, path: str, metrics: AgentMetrics) -> None:
        """Read it for the first time; raises PolicyError."""
        self._file = Watched(path, LARGEST_FILE)
        self._metrics = metrics
        self._trouble = Trouble(log, lambda: metrics.reload_errors("policy"))
        self._data: bytes | None = None
        self._policy: Policy
        self._second = 0.0
        self._lines = 0
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
        self._tell(decision, request)
        return explain(decision)

    def _read(self) -> None:
        """Read the file and use it, unless these very bytes are in force; raises PolicyError."""
        data = _read(self._file)
        if data == self._data:
            return
        self._policy = _parse(data, self.path)
        self._data = data
        self._metrics.policy_rules([*(rule.name for rule in self._policy.rules), DEFAULT, NOT_CANONICAL])
        log.info("a policy is in force", extra=fields(file=self.path, rules=self.rules))

    def _tell(self, decision: Decision, request: Request) -> None:
        """One line in the log, of at most LINES in a second."""
        now = monotonic()
        if now - self._second >= 1.0:
            if self._lines > LINES:
                log.warning("more refusals than lines about them", extra=fields(left_out=self._lines - LINES))
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES:
            log.warning(
                "the policy refuses a request",
                extra=fields(
                    rule=decision.rule,
                    request=str(decision.what),
                    caller=request.caller or "-",
                    audit_id=request.audit_id.decode("ascii", "replace") or "-",
                ),
            )


def read_policy(path: str) -> Policy:
    """The policy in a file; raises PolicyError."""
    return _parse(_read(Watched(path, LARGEST_FILE)), path)


def _read(file: Watched) -> bytes:
    try:
        return file.read()
    except OSError as error:
        raise PolicyError(OPTION, file.path, f"a readable file ({error.strerror})") from None


def _parse(data: bytes, path: str) -> Policy:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError(OPTION, path, "a file in UTF-8") from None
    return parse_policy(text, path)


def explain(decision: Decision) -> str:
    """A refusal as its client reads it."""
    if decision.rule == NOT_CANONICAL:
        return f"the policy of this cluster's agent takes no target that has {decision.what}"
    rule = "no rule allows it" if decision.rule == DEFAULT else f"rule {decision.rule}"
    return f"the policy of this cluster's agent forbids {decision.what} ({rule})"
