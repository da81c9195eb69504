"""The stand-in API's refusals, in the form and with the words of Kubernetes' own `Status`."""

from typing import Any

from argotun.errors import ArgotunError


class Refusal(ArgotunError):
    """A request that the stand-in API refuses; `code` is the HTTP status, `reason` the API's word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason

    def status(self) -> dict[str, Any]:
        """The `Status` object that says it."""
        about = {"status": "Failure", "message": str(self), "reason": self.reason, "code": self.code}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **about}


def bad_request(why: str) -> Refusal:
    """400 for a body or a query that cannot be read, or asks for more than the stand-in can do."""
    return Refusal(400, "BadRequest", why)
