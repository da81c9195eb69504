"""Answers of argotun's own: Kubernetes `Status` bodies, so that kubectl and Argo CD show a person our words.

There is no clock here, so the answers carry no Date (RFC 9110 §6.6.1 lets a server without one leave it out).
"""

import json
import re

# Status code → its words in the status line, and the reason that Kubernetes gives it (metav1.StatusReason).
# Where it has none of its own: InternalError from 500 up, as client-go derives it, else BadRequest.
_CODES = {
    400: (b"Bad Request", "BadRequest"),
    401: (b"Unauthorized", "Unauthorized"),
    403: (b"Forbidden", "Forbidden"),
    404: (b"Not Found", "NotFound"),
    405: (b"Method Not Allowed", "MethodNotAllowed"),
    408: (b"Request Timeout", "Timeout"),
    413: (b"Content Too Large", "RequestEntityTooLarge"),
    426: (b"Upgrade Required", "BadRequest"),
    429: (b"Too Many Requests", "TooManyRequests"),
    431: (b"Request Header Fields Too Large", "BadRequest"),
    500: (b"Internal Server Error", "InternalError"),
    501: (b"Not Implemented", "InternalError"),
    502: (b"Bad Gateway", "InternalError"),
    503: (b"Service Unavailable", "ServiceUnavailable"),
    504: (b"Gateway Timeout", "Timeout"),
    505: (b"HTTP Version Not Supported", "InternalError"),
}
# client-go does not decode a Status here, and kubectl shows a person the body only of a 5xx, when it is text.
_HIDDEN = frozenset((400, 503))
_DISCOVERY = re.compile(rb"/(?:version|apis?|openapi)/?(?:\?.*)?|/openapi/.*", re.DOTALL)
# And of each group and version of kinds: `/api/v1`, `/apis/apps`, `/apis/apps/v1`.
_KINDS = re.compile(rb"/(?:api/[^/?]+|apis/[^/?]+(?:/[^/?]+)?)/?(?:\?.*)?", re.DOTALL)
# Long enough for a sentence with a host name of 253 bytes and an OpenSSL error.
MAX_MESSAGE = 1024
# Control characters, line separators, and marks that reorder text on a terminal (CVE-2021-42574).
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
)


def is_discovery(target: bytes) -> bool:
    """Whether a path, without the tunnel prefix, is one that client-go's discovery asks for."""
    return _DISCOVERY.fullmatch(target) is not None


def is_hurried(target: bytes) -> bool:
    """Whether client-go gives all its attempts for a path 32 s together.

    That is so for discovery's, and for those that say which kinds a group and version has.
    """
    return is_discovery(target) or _KINDS.fullmatch(target) is not None


def error_response(
    code: int,
    message: str,
    *,
    retry_after: int | None = None,
    target: bytes = b"",
    close: bool = True,
    head_only: bool = False,
) -> tuple[int, bytes]:
    """The status code and the whole HTTP/1.1 response: a Kubernetes `Status` that says `argotun: message`.

    code         one of those that argotun answers itself with; KeyError for any other
    message      whatever it holds, it reaches the client as one line of at most MAX_MESSAGE characters
    retry_after  seconds, for `Retry-After` and `details.retryAfterSeconds`; only when the request certainly
                 did not reach the API, because client-go then repeats even a POST
    target       that of a GET, without the tunnel prefix: on discovery paths a 400 or 503 becomes a 502 in
                 plain text
    head_only    answers a HEAD: the same head without the body
    """
    text = _one_line(message)
    if code in _HIDDEN and is_discovery(target):
        code, kind, body = 502, b"text/plain; charset=utf-8", text.encode()
    else:
        kind, body = b"application/json", _status(code, text, retry_after)
    return code, b"".join(
        (
            b"HTTP/1.1 %d %b\r\n" % (code, _CODES[code][0]),
            b"Content-Type: %b\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n" % kind,
            b"" if retry_after is None else b"Retry-After: %d\r\n" % retry_after,
            b"Content-Length: %d\r\n" % len(body),
            b"Connection: close\r\n\r\n" if close else b"\r\n",
            b"" if head_only else body,
        )
    )


def _status(code: int, message: str, retry_after: int | None) -> bytes:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": _CODES[code][1],
        "details": {} if retry_after is None else {"retryAfterSeconds": retry_after},
        "code": code,
    }
    return json.dumps(status, separators=(",", ":")).encode() + b"\n"


def _one_line(message: str) -> str:
    text = _UNPRINTABLE.sub(" ", message).strip()
    if not text.startswith("argotun:"):
        text = "argotun: " + text
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
