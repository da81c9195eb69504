"""Whether this machine's clock agrees with another one's, as that says in a Date field."""

import time
from email.utils import parsedate_to_datetime

from argotun.check.certificates import span
from argotun.check.steps import Walk
from argotun.server.accounts import LEEWAY

NOTICED = 5.0
"""Seconds that clocks which are kept right do not differ."""


def look(walk: Walk, date: str, who: str) -> None:
    """Compare with the Date field of an answer that has just come; `who` gave it."""
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        walk.warn(
            "clock", f"{who} does not say what time it is", "compare this machine's clock with another one"
        )
        return
    ahead = time.time() - theirs
    # A Date has whole seconds.
    apart = abs(ahead) - 1.0
    which = "ahead of" if ahead > 0 else "behind"
    says = f"this machine's clock is {span(abs(ahead))} {which} that of {who}"
    # Beyond it servers refuse ServiceAccount tokens.
    if apart > LEEWAY:
        walk.fail("clock", says)
    elif apart > NOTICED:
        walk.warn("clock", says)
    else:
        walk.ok("clock", f"this machine's clock agrees with that of {who}")
