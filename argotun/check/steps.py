"""A walk: one finding for each step, told as it is made."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from argotun.check.advice import advice
from argotun.errors import ArgotunError

OK, WARNING, FAILED = "ok", "warning", "failed"
"""What became of a step. A warning is something that works, and that somebody should look at."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one step: `says` is a sentence, `todo` another one, "" where nothing is to be done."""

    step: str
    result: str
    says: str
    todo: str = ""


class Walk:
    """The findings so far; `tell` is called with each as it is made."""

    def __init__(self, tell: Callable[[Finding], None] = lambda finding: None) -> None:
        self.findings: list[Finding] = []
        self._tell = tell

    @property
    def failed(self) -> bool:
        """Whether any step has failed."""
        return any(finding.result == FAILED for finding in self.findings)

    def ok(self, step: str, says: str) -> None:
        """The step went well."""
        self._add(Finding(step, OK, says))

    def warn(self, step: str, says: str, todo: str = "") -> None:
        """The step went well enough; `todo` is looked up where it is not given."""
        self._add(Finding(step, WARNING, says, todo or advice(step, says)))

    def fail(self, step: str, says: str, todo: str = "") -> None:
        """The step failed; `todo` is looked up where it is not given."""
        self._add(Finding(step, FAILED, says, todo or advice(step, says)))

    def attempt(self, step: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; None where it raises ArgotunError, and then the step failed."""
        try:
            return make()
        except ArgotunError as error:
            self.fail(step, str(error))
            return None

    def done(self, step: str, act: Callable[[], object]) -> bool:
        """Whether `act` raises no ArgotunError; where it does, the step failed."""
        return self.attempt(step, lambda: (act(),)) is not None

    def approach(
        self,
        steps: Iterable[tuple[str, Any]],
        names: Mapping[str, str],
        last: str,
        tell: Callable[[str, Any], None] = lambda name, given: None,
    ) -> Any:
        """Walk a role's own steps as far as `last`, and give what that gave; None where one has failed.

        `names` says what each is called here, in their order; `tell` is called with each that went well.
        """
        ahead = iter(names.values())
        step = next(ahead)
        try:
            for name, given in steps:
                step = next(ahead, step)
                tell(name, given)
                if name == last:
                    return given
        except (ArgotunError, OSError) as error:
            self.fail(step, str(error))
        return None

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._tell(finding)
