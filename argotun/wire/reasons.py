"""Why a stream or a tunnel is ended: a code for programs and words for people, in ERROR and GOAWAY.

Between two peers that know of codes (`reasons` in HELLO) the payload is one byte of code and the text. What a
peer says before it has our HELLO has no code yet; a text never begins with a control byte, so that a payload
tells which of the two forms it has. Releases without codes send words only, and a few of these say, word for
word, what the codes do.
"""

from argotun.wire.frames import MAX_ERROR_TEXT

(
    NONE,
    FAILED,
    STREAM_LIMIT,
    NOT_ALLOWED,
    STALE,
    PROTOCOL,
    UNREACHABLE,
    REPLACED,
    DRAINING,
    ENDING,
    NOT_HERE,
    LOST,
    MOVE,
) = range(13)

WORDS = {
    NONE: "",
    FAILED: "failed",
    STREAM_LIMIT: "stream limit reached",
    NOT_ALLOWED: "address not allowed",
    STALE: "upstream closed an idle connection",
    PROTOCOL: "protocol error",
    UNREACHABLE: "the API cannot be reached",
    REPLACED: "replaced by a newer agent",
    DRAINING: "draining",
    ENDING: "ending",
    NOT_HERE: "no agent of this cluster is here",
    LOST: "the agent's tunnel was lost",
    MOVE: "another replica has fewer agents",
}
"""What is said where the sender has no words of its own."""

REPLICAS = frozenset({NOT_HERE, LOST})
"""What only a replica can know: an agent's word for it is worth no more than a failure."""

LARGEST = 0x1F
"""The last byte that may be a code; one that is not known here counts as FAILED, and so does NONE:
what ends well ends by CLOSE."""

_CODES = "".join(map(chr, range(LARGEST + 1)))

_BY_WORDS = {WORDS[code]: code for code in (STREAM_LIMIT, NOT_ALLOWED, STALE, REPLACED)}


def encode(reason: int, text: str, coded: bool) -> bytes:
    """The payload that says `reason`, in `text` or in its own words; `coded` when the peer knows of codes."""
    words = (text.lstrip(_CODES) or WORDS[reason]).encode("utf-8", "replace")[:MAX_ERROR_TEXT]
    return bytes((reason,)) + words if coded else words


def decode(payload: bytes, coded: bool) -> tuple[int, str]:
    """The reason and the text of a payload, bounded and never an error; `coded` if its peer has codes."""
    if coded and payload and payload[0] <= LARGEST:
        return payload[0] if payload[0] in WORDS and payload[0] != NONE else FAILED, _text(payload[1:])
    text = _text(payload)
    return _BY_WORDS.get(text, FAILED), text


def _text(payload: bytes) -> str:
    return payload[:MAX_ERROR_TEXT].decode("utf-8", "replace")
