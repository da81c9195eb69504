"""Traces: a span for each request, on the server and on the agent, where a collector is named.

    caller's span ──▶ server's span ──▶ agent's span ──▶ kube-apiserver's own

Each hop reads `traceparent` and `tracestate` (W3C Trace Context), begins a span below what they name, and
sends its own on in their place. What is no valid traceparent, or comes twice, counts for nothing: the trace
begins here. A caller that says "not sampled" is believed, and its request is recorded nowhere.

Without OTEL_EXPORTER_OTLP_ENDPOINT there is no `Tracing`, nothing of OpenTelemetry is imported, and the
fields pass as they came. The variables are those of OpenTelemetry's specification, read by its SDK (`otlp`).
"""

import logging
from collections.abc import Callable, Collection, Mapping
from time import monotonic, time_ns
from typing import Protocol
from urllib.parse import urlsplit

from argotun.observe.logs import hide_secrets, plain
from argotun.observe.request import Fact, Request, Span

log = logging.getLogger(__name__)

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
FIELDS = frozenset((TRACEPARENT, TRACESTATE))
"""What a hop replaces while it traces."""

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
"""The one that argotun speaks to a collector."""

STEP = 100_000_000
"""Nanoseconds by which two clocks part where one has been set; less may be a process that had to wait."""

LOOKS = 5
"""At both clocks."""

ERRORS = 500
"""The status from which on a span counts as failed, whoever answered."""


class Head(Protocol):
    """A request's head, as a hop needs it."""

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field, one for each of its lines; `name` in lower case."""

    def leave_out(self, names: Collection[bytes]) -> None:
        """Send these fields on no more; `names` in lower case."""


class Exporter(Protocol):
    """What makes spans and sends them off."""

    def begin(self, name: str, parent: list[str], state: list[str], at: int, facts: dict[str, Fact]) -> Span:
        """A span that begins `at` Unix nanoseconds, below what a traceparent and its tracestate name."""

    def close(self) -> None:
        """Send what is left, for a bounded time."""


class Tracing:
    """The spans of a process."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._unix = Clock().unix

    def begin(self, request: Request, head: Head) -> None:
        """The request has its span from now on, and its head goes on with that in place of the caller's."""
        parents = head.values(TRACEPARENT)
        states = head.values(TRACESTATE)
        if parents or states:
            head.leave_out(FIELDS)
        request.span = self._exporter.begin(
            request.method.decode("ascii"),
            [each.decode("latin-1") for each in parents] if len(parents) == 1 else [],
            [each.decode("latin-1") for each in states],
            self._unix(request.began),
            {
                "http.request.method": request.method.decode("ascii"),
                # Without its query, which may hold secrets.
                "url.path": hide_secrets(plain(request.target.partition(b"?")[0])),
                "argotun.cluster": request.cluster,
                "argotun.audit_id": plain(request.audit_id),
            },
        )

    def end(self, request: Request) -> None:
        """The request is over, and its span with it."""
        span, request.span = request.span, None
        if span is None:
            return
        status, why = request.status, hide_secrets(plain(request.error))
        facts: dict[str, Fact] = {}
        if status:
            facts["http.response.status_code"] = status
        if request.caller:
            facts["argotun.caller"] = plain(request.caller)
        if request.via:
            facts["argotun.via"] = request.via
        failed = bool(why) or status >= ERRORS
        if failed:
            facts["error.type"] = str(status or "_OTHER")
        span.end(self._unix(request.ended), facts, failed, why)

    def close(self) -> None:
        """Send what is left, for a bounded time."""
        self._exporter.close()


def start(service: str, environ: Mapping[str, str]) -> Tracing | None:
    """The tracing that the environment asks for; None where it asks for none, or for what cannot be had.

    The second is a WARN: a tunnel is worth more than its traces, so nothing here ends the process. `service`
    is the name of the process in traces, unless OTEL_SERVICE_NAME gives another.
    """
    variable, why = collector(environ)
    if not variable:
        return None
    if not why:
        try:
            # Only here: without a collector nobody needs any of it, nor its memory.
            from argotun.observe import otlp  # noqa: PLC0415  see above

            return Tracing(otlp.Otlp(service, environ[variable]))
        except ModuleNotFoundError as error:
            why = missing(variable, error)
        except (OSError, ValueError) as error:
            why = f"{variable} is set, but its exporter does not start: {error}"
    log.warning("no traces are exported: %s", why)
    return None


def collector(environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that names the collector, "" where nothing is to be traced; and why that is of no use."""
    variable = next((name for name in ENDPOINTS if environ.get(name)), "")
    if not variable or _switched_off(environ):
        return "", ""
    return variable, _unusable(variable, environ)


def missing(variable: str, error: ModuleNotFoundError) -> str:
    """A sentence about a package that traces need; raises `error` where that is about a part of argotun."""
    if (error.name or "").partition(".")[0] in ("", "argotun"):
        raise error
    return f"{variable} is set, but {error.name} is not installed: pip install 'argotun[otel]'"


def ending(tracing: Tracing | None, record: Callable[[Request], None]) -> Callable[[Request], None]:
    """What is to be called with each request that is over: `record` itself where nothing is traced."""
    if tracing is None:
        return record
    end = tracing.end

    def both(request: Request) -> None:
        record(request)
        end(request)

    return both


def _switched_off(environ: Mapping[str, str]) -> bool:
    return (
        environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    )


def _unusable(variable: str, environ: Mapping[str, str]) -> str:
    """Why the environment's words are of no use, "" where they are."""
    try:
        url = urlsplit(environ[variable])
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        return f"{variable} must be an http:// or https:// URL, as http://collector:4318"
    chosen = next((name for name in PROTOCOLS if environ.get(name)), "")
    if chosen and environ[chosen] != PROTOCOL:
        return f"{chosen} is {plain(environ[chosen])!r}, and argotun speaks {PROTOCOL} only"
    return ""


class Clock:
    """Monotonic seconds as Unix nanoseconds, in the same order: two clocks are never read at one moment."""

    def __init__(self) -> None:
        self._zero = _zero()

    def unix(self, at: float) -> int:
        """The time `at` in Unix nanoseconds."""
        if abs(time_ns() - int(monotonic() * 1e9) - self._zero) > STEP:
            self._zero = _zero()
        return self._zero + int(at * 1e9)


def _zero() -> int:
    """Unix nanoseconds at monotonic 0: the look at both clocks that took least time tells it best."""
    looks = []
    for _ in range(LOOKS):
        before, now, after = monotonic(), time_ns(), monotonic()
        looks.append((after - before, now - int(before * 1e9)))
    return min(looks)[1]
