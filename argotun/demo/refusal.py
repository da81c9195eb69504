"""The stand-in API's refusals, in the form and with the words of Kubernetes' own `Status`."""

from argotun.demo.resources import Json, Resource
from argotun.errors import ArgotunError


class Refusal(ArgotunError):
    """A request that the stand-in API refuses; `code` is the HTTP status, `reason` the API's word for it."""

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> Json:
        """The `Status` object that says it."""
        body: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            body["details"] = self.details
        return body


def _named(resource: Resource, name: str) -> Json:
    return {"name": name, "group": resource.group, "kind": resource.plural}


def unknown_path() -> Refusal:
    """404 for a path that is no resource."""
    return Refusal(404, "NotFound", "the server could not find the requested resource")


def not_found(resource: Resource, name: str) -> Refusal:
    """404 for an object that does not exist."""
    return Refusal(404, "NotFound", f'{resource.qualified} "{name}" not found', _named(resource, name))


def already_exists(resource: Resource, name: str) -> Refusal:
    """409 for a create of what exists."""
    return Refusal(
        409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', _named(resource, name)
    )


def conflict(resource: Resource, name: str, why: str) -> Refusal:
    """409 for a write based on an older version or another object of the same name."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return Refusal(409, "Conflict", message, _named(resource, name))


def invalid(resource: Resource, name: str, field: str, why: str) -> Refusal:
    """422 for an object that breaks a rule of its kind."""
    details = {**_named(resource, name), "kind": resource.kind, "causes": [{"field": field, "message": why}]}
    return Refusal(422, "Invalid", f'{resource.kind} "{name}" is invalid: {field}: {why}', details)


def bad_request(why: str) -> Refusal:
    """400 for a body, option or selector that cannot be read."""
    return Refusal(400, "BadRequest", why)


def unauthorized() -> Refusal:
    """401 for a request without the credential that the stand-in API was told to ask for."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> Refusal:
    """405 for a verb that the resource does not have."""
    return Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def not_acceptable() -> Refusal:
    """406 for a client that does not take JSON."""
    return Refusal(
        406, "NotAcceptable", "only the following media types are accepted: application/json (stand-in API)"
    )


def unsupported_media_type(given: str, accepted: tuple[str, ...]) -> Refusal:
    """415 for a body in a form that is not read here."""
    message = f"the body of the request was in an unknown format - {given or 'no content type'}"
    return Refusal(
        415, "UnsupportedMediaType", f"{message}; accepted media types include: {', '.join(accepted)}"
    )


def expired(oldest: int) -> Refusal:
    """410 for a watch from a version whose changes are forgotten."""
    return Refusal(410, "Expired", f"too old resource version: the oldest one known is {oldest}")


def too_large(limit: int) -> Refusal:
    """413 for a body over the limit (bytes)."""
    return Refusal(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")
