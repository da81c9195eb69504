"""Logging to stderr: one line per record, as text or JSON, safe to show whatever a peer sent.

    2026-01-02T03:04:05.678Z INFO  server: agent connected cluster=dev version=2
    {"ts": "2026-01-02T03:04:05.678Z", "level": "info", "logger": "server", "msg": …, "cluster": "dev"}

A module logs with `logging.getLogger(__name__)`; the message is a constant, and what varies goes into
fields: `log.info("agent connected", extra=fields(cluster=cluster_id, version=2))`. Control characters
are escaped and credentials hidden, in both formats and in tracebacks too.
"""

import json
import logging
import math
import re
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from types import TracebackType

import gevent
import gevent.hub

from argotun.observe.lines import LineWriter

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
"""Values of `--log-level`."""

MAX_FIELD = 2048
"""Characters of a field's value that are shown; a request's path may have 64 KiB."""

_NAMES = {number: name for name, number in LEVELS.items()}
_SECRET_NAMES = frozenset(("authorization", "cookie", "password", "secret", "token"))
_SECRETS = (
    # A credential behind its authentication scheme (RFC 9110 §11.4).
    (re.compile(r"(?i)\b(bearer|basic)(\s+|%20|\+)[\w.~+/=%-]+"), r"\1 [hidden]"),
    # A JSON Web Token, which a ServiceAccount token is (RFC 7519).
    (re.compile(r"\beyJ[\w-]{5,}(\.[\w-]*){1,2}"), "[hidden]"),
    # The WebSocket subprotocol in which browsers send a token to Kubernetes.
    (re.compile(r"(base64url\.bearer\.authorization\.k8s\.io\.)[\w-]+"), r"\1[hidden]"),
    # User and password in a URL (RFC 3986 §3.2.1).
    (re.compile(r"//[^/\s@\"']+@"), "//[hidden]@"),
)
_HINT = re.compile(r"(?i)bearer|basic|eyJ|@")
# Control characters, line separators and marks that reorder text on a terminal.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_is_bare = re.compile(r"[!#-\[\]-~]+").fullmatch

_log = logging.getLogger(__name__)


def fields(**values: object) -> dict[str, dict[str, object]]:
    """The variable part of a log record, for `extra=`; bytes are shown as latin-1 text."""
    return {"fields": values}


def setup(level: str, fmt: str) -> None:
    """Send all logging to stderr; `level` is a key of LEVELS, `fmt` is text or json.

    Libraries report from warning on (from info on at debug level). An error that ends a greenlet is logged
    too. May be called again; handlers that others have installed stay.
    """
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, LineHandler)]:
        root.removeHandler(handler)
        handler.close()
    handler = LineHandler(LineWriter(sys.stderr.fileno(), delay=0, on_recovery=_report_dropped))
    handler.setFormatter(JsonFormatter() if fmt == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    logging.getLogger("argotun").setLevel(LEVELS[level])
    logging.captureWarnings(True)
    hub = gevent.get_hub()
    hub.handle_error = partial(_handle_error, hub)


def _handle_error(
    hub: gevent.hub.Hub,
    context: object,
    kind: type[BaseException],
    error: BaseException | str | None,
    trace: TracebackType | None,
) -> None:
    """Log what ended a greenlet or a callback, where the hub's own method of this name prints it."""
    if issubclass(kind, hub.NOT_ERROR):
        type(hub).handle_error(hub, context, kind, error, trace)
        return
    if not isinstance(error, BaseException):
        error = kind(error)
    where = context if isinstance(context, str) else repr(context)
    _log.error("unexpected error", exc_info=(kind, error, trace), extra=fields(where=where))
    if context is None or issubclass(kind, hub.SYSTEM_ERROR):
        hub.handle_system_error(kind, error, trace)


class LineHandler(logging.StreamHandler[LineWriter]):
    """Writes records through a LineWriter, so that a stalled stderr stops nothing."""

    def close(self) -> None:
        """Write what is pending."""
        self.stream.close()
        super().close()


def _report_dropped(count: int) -> None:
    _log.warning("log output stalled, lines were dropped", extra=fields(lines=count))


def timestamp(seconds: float) -> str:
    """A Unix time in RFC 3339: `1767322845.678` → `2026-01-02T03:00:45.678Z`."""
    return _to_the_millisecond(int(seconds * 1000 + 0.5))


# Under load, several lines fall into one millisecond.
@lru_cache(maxsize=1)
def _to_the_millisecond(milliseconds: int) -> str:
    second, rest = divmod(milliseconds, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{rest:03d}Z"


def hide_secrets(text: str) -> str:
    """`text` without anything that looks like a credential."""
    if _HINT.search(text) is None:
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def escape(text: str) -> str:
    r"""`text` with control characters as `\n`, `\x1b`, `\u2028`: it stays on one line."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(lambda found: repr(found[0])[1:-1], text)


def quote(value: object) -> str:
    """A field's value: bare where it is one visible ASCII word, else as a JSON string."""
    text = plain(value)
    if _is_bare(text):
        return text
    return json.dumps(text)


def plain(value: object) -> str:
    """A field's value as text of bounded length."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[: MAX_FIELD + 1]).decode("latin-1")
    text = str(value)
    return text if len(text) <= MAX_FIELD else text[:MAX_FIELD] + "…"


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message key=value …`, with a traceback's lines behind `  | `."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line, and one more per line of its traceback."""
        pairs = "".join(f" {name}={quote(value)}" for name, value in _fields_of(record))
        message = escape(hide_secrets(record.getMessage())) + hide_secrets(pairs)
        line = f"{timestamp(record.created)} {_level_of(record).upper():5} {_logger_of(record)}: {message}"
        return "\n  | ".join(
            [line, *(escape(hide_secrets(each)) for each in _traceback_of(record).splitlines())]
        )


class JsonFormatter(logging.Formatter):
    """An object per line: `ts level logger msg`, the fields, and `exc` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        entry: dict[str, object] = {
            "ts": timestamp(record.created),
            "level": _level_of(record),
            "logger": _logger_of(record),
            "msg": hide_secrets(record.getMessage()),
        }
        for name, value in _fields_of(record):
            number = isinstance(value, int | float) and math.isfinite(value)
            entry.setdefault(name, value if value is None or number else hide_secrets(plain(value)))
        if trace := _traceback_of(record):
            entry["exc"] = hide_secrets(trace)
        return json.dumps(entry)


def _level_of(record: logging.LogRecord) -> str:
    return _NAMES.get(record.levelno) or ("error" if record.levelno > logging.ERROR else "debug")


def _logger_of(record: logging.LogRecord) -> str:
    return escape(record.name.removeprefix("argotun."))


def _fields_of(record: logging.LogRecord) -> Iterable[tuple[str, object]]:
    values: Mapping[str, object] = getattr(record, "fields", {})
    return [(name, "[hidden]" if name in _SECRET_NAMES else value) for name, value in values.items()]


def _traceback_of(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
