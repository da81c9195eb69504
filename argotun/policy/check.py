"""`--policy-check`: what a policy says to one request, written as a person would write it."""

import re

from argotun.errors import PolicyError
from argotun.policy.rules import DEFAULT, NOT_CANONICAL, Policy

OPTION = "--policy-check"
EXPECTED = "a request such as 'GET /api/v1/pods', then upgrade or caller=NAME where that matters"

_REQUEST = re.compile(r"([A-Z]+) +(/[!-\"$-~]*)((?: +(?:upgrade|caller=[!-~]+))*)")


def check(policy: Policy, request: str) -> tuple[bool, str]:
    """Whether `policy` allows `request`, and why; raises PolicyError for what is no request."""
    match = _REQUEST.fullmatch(request.strip())
    if match is None:
        raise PolicyError(OPTION, request, EXPECTED)
    method, target, more = match.groups()
    words = more.split()
    caller = next((word.partition("=")[2] for word in words if word != "upgrade"), "")
    decision = policy.judge(method.encode(), target.encode(), caller=caller, upgrade="upgrade" in words)
    verdict = "allowed" if decision.allowed else "refused"
    if decision.rule == NOT_CANONICAL:
        return False, f"refused, {NOT_CANONICAL}: the target has {decision.what}"
    by = "by default" if decision.rule == DEFAULT else f"by rule {decision.rule}"
    return decision.allowed, f"{verdict} {by}: {decision.what}"
