"""Why a stream or a tunnel is ended: codes for programs, words for people."""

NONE, FAILED, STREAM_LIMIT, NOT_ALLOWED, STALE, PROTOCOL, UNREACHABLE, REPLACED, DRAINING = range(9)

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
}


def decode(text: str) -> int:
    """The code of legacy prose."""
    for code, words in WORDS.items():
        if words and text.startswith(words):
            return code
    return FAILED
