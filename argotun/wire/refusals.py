"""Why a head is refused: the limits, and the words for what the patterns in `head` did not match.

Nothing here accepts anything: a head that comes here is refused already, and looked at again only to say why.
"""

import re

from argotun.errors import HeadError
from argotun.wire.fields import TOKEN, VALUE, elements

# As much as the most generous gateways let through (AWS ALB 64 KiB, Envoy 60 KiB, nginx 32 KiB), so that a
# long label selector or a token with many groups is not refused here first; little enough to hold for a
# thousand slow peers.
MAX_HEAD = 64 * 1024
# One Impersonate-Group for each of the 1,015 groups that an account of Active Directory can be in, and
# ordinary ones; with UUIDs for names these groups just fill MAX_HEAD. kube-apiserver counts bytes alone.
# A limit stays, since repeated fields are joined: all that fit into MAX_HEAD would cost ten times as much.
MAX_FIELDS = 1088

_TOKEN = re.compile(TOKEN + rb"++")
# A control byte but HTAB, a LF after no CR, a CR before no LF: nothing that follows can mend these. A CR at
# the very end may still get its LF.
_BEYOND_MENDING = re.compile(rb"[\x00-\x08\n-\x1f\x7f](?<!\r\n)(?:(?<!\r)|(?!\n|\Z))")


def _table(*rows: tuple[bytes, str, int]) -> tuple[tuple[re.Pattern[bytes], str, int], ...]:
    return tuple((re.compile(pattern, re.DOTALL), words, status) for pattern, words, status in rows)


# The first row that matches the whole start line says why; the last row of each always does.
_REQUEST_LINE = _table(
    (TOKEN + rb"++ (?!HTTP/)[^ \t]++", "HTTP/0.9 is not supported", 505),
    (rb"[^ ]*+ [^ ]*+ HTTP/(?!1\.[01])[0-9]\.[0-9]", "only HTTP/1.0 and HTTP/1.1 are supported", 505),
    (rb"(?![^ ]*+ [^ ]*+ HTTP/[0-9]\.[0-9]\Z).*+", "malformed request line", 400),
    (rb"(?!" + TOKEN + rb"++ ).*+", "malformed method", 400),
    (rb"(?!(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) ).*+", "unsupported method", 501),
    (rb"[^ ]++ (?!/).*+", "the request target must begin with /", 400),
    (rb"[^ ]++ /[!\"$-~]*+ .*+", "malformed head", 400),
    (rb".*+", "a byte in the request target that must be percent-encoded", 400),
)
_STATUS_LINE = _table(
    (rb"(?!HTTP/).*+", "not an HTTP response", 400),
    (rb"(?!HTTP/1\.[01](?: |\Z)).*+", "only HTTP/1.0 and HTTP/1.1 are supported", 505),
    (rb"(?![^ ]++ [1-5][0-9][0-9](?: |\Z)).*+", "malformed status code", 400),
    (rb".*+", "malformed head", 400),
)
_FIELD = _table(
    (rb"[ \t].*+", "a folded header line", 400),
    (rb":.*+", "a header field without a name", 400),
    (rb"[^:]*+", "a header line without a colon", 400),
    (rb"[^:]*[ \t]:.*+", "whitespace before the colon of a header field", 400),
    (rb"(?!" + TOKEN + rb"++:).*+", "a header field name that is not a token", 400),
    (rb"(?!" + TOKEN + rb"++:" + VALUE + rb"*+\Z).*+", "a control byte in a header field", 400),
)


def check_partial(buf: bytes | bytearray, start: int) -> None:
    """Refuse a head that has no end yet and can never have a right one; `start` as in `find_head_end`."""
    if buf.startswith((b"\r\n", b"\n")):
        raise _empty_first_line()
    match = _BEYOND_MENDING.search(buf, start - 1 if start > 1 else 0, MAX_HEAD)
    if match is not None:
        raise _misplaced(match[0])
    if len(buf) >= MAX_HEAD:
        raise _too_long()


def request(data: bytes) -> HeadError:
    """Why `data` is no request head."""
    return _explain(data, _REQUEST_LINE)


def response(data: bytes) -> HeadError:
    """Why `data` is no response head."""
    return _explain(data, _STATUS_LINE)


def too_many_fields() -> HeadError:
    """More fields than MAX_FIELDS."""
    return HeadError(f"more than {MAX_FIELDS} header fields", 431)


def coding(value: bytes) -> HeadError:
    """Why Transfer-Encoding is not `chunked`: 501 for well-formed codings (RFC 9112 §6.1), else 400."""
    codings = elements(value.lower())
    unknown = [name for name in codings if name != b"chunked"]
    if unknown and len(codings) - len(unknown) < 2 and all(_TOKEN.fullmatch(name) for name in unknown):
        return HeadError("a Transfer-Encoding other than chunked is not supported", 501)
    return HeadError("Transfer-Encoding must be chunked, once")


def _explain(data: bytes, first_line: tuple[tuple[re.Pattern[bytes], str, int], ...]) -> HeadError:
    if len(data) > MAX_HEAD:
        return _too_long()
    if data.startswith((b"\r\n", b"\n")):
        return _empty_first_line()
    misplaced = _BEYOND_MENDING.search(data)
    if misplaced is not None:
        return _misplaced(misplaced[0])
    line, *lines = data.split(b"\r\n")
    if len(lines) > MAX_FIELDS + 2:
        return too_many_fields()
    for field in lines[:-2]:
        refusal = _first(_FIELD, field)
        if refusal is not None:
            return refusal
    return _first(first_line, line) or HeadError("malformed head")


def _first(table: tuple[tuple[re.Pattern[bytes], str, int], ...], line: bytes) -> HeadError | None:
    for pattern, words, status in table:
        if pattern.fullmatch(line) is not None:
            return HeadError(words, status)
    return None


def _misplaced(byte: bytes) -> HeadError:
    words = {b"\n": "a line that ends in LF alone", b"\r": "a CR without its LF"}
    return HeadError(words.get(byte, "a control byte in the head"))


def _empty_first_line() -> HeadError:
    return HeadError("an empty line in place of the first line")


def _too_long() -> HeadError:
    return HeadError(f"the head is longer than {MAX_HEAD} bytes", 431)
