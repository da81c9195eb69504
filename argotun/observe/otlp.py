"""Spans by OTLP/HTTP, with OpenTelemetry's SDK; imported only where a collector is named (`tracing`).

A request never waits for any of this: a span that ends goes into a queue, and a greenlet of the SDK's batch
processor (its thread, which gevent has patched) sends what is there every few seconds. A queue that is full
drops the oldest. The collector is a stranger to the tunnel: an attempt has one deadline for all of it,
follows no redirect, and reads a bounded answer; that it fails is one WARN, and changes nothing else.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from os import environ
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import gevent
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_EXPORT_BATCH_SIZE, OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from argotun import __version__
from argotun.observe.logs import fields
from argotun.observe.request import Fact

log = logging.getLogger(__name__)

BATCH = 64
"""Spans in a message, unless OTEL_BSP_MAX_EXPORT_BATCH_SIZE says otherwise: encoding 512 at once, as the SDK
would, keeps the event loop for some 20 ms, and with it every tunnel."""

ANSWER = 64 * 1024
"""Bytes of an answer that are read, so that the connection can be kept; nobody looks at them."""

LAST_WORDS = 2.0
"""Seconds in which what is left is sent when the process ends."""

TELL = 600.0
"""Seconds after which a collector that fails is told of again."""

AGENT = "argotun-agent"


class Otlp:
    """Spans of the service named `service`, sent to the collector at `endpoint`, a URL.

    Everything else is read from the environment, as OpenTelemetry's specification has it. Raises ValueError
    or OSError where that cannot be used.
    """

    def __init__(self, service: str, endpoint: str) -> None:
        self._session = _Session()
        exporter = _Telling(OTLPSpanExporter(session=self._session), self._session, endpoint)
        size = None if environ.get(OTEL_BSP_MAX_EXPORT_BATCH_SIZE) else BATCH
        self._processor = BatchSpanProcessor(exporter, max_export_batch_size=size)
        named = {} if environ.get(OTEL_SERVICE_NAME) else {"service.name": service}
        resource = Resource.create({**named, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self._start = self._provider.get_tracer("argotun", __version__).start_span
        self._extract = TraceContextTextMapPropagator().extract
        # What the agent asks is the API; the server is asked.
        self._kind = SpanKind.CLIENT if service == AGENT else SpanKind.SERVER
        _quieten()

    def begin(
        self, name: str, parent: list[str], state: list[str], at: int, facts: dict[str, Fact]
    ) -> "Begun":
        """A span that begins `at` Unix nanoseconds, below what a traceparent and its tracestate name."""
        context = self._extract({"traceparent": parent, "tracestate": state})
        return Begun(self._start(name, context, self._kind, facts, start_time=at))

    def close(self) -> None:
        """Send what is left, for LAST_WORDS at most."""
        gevent.spawn(self._provider.shutdown).join(LAST_WORDS)
        self._session.cut()


def knock() -> str:
    """Send a message without a span, as the environment says; why it was not taken, or "".

    Waits for as long as a message may take, 10 s unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise. Raises
    ValueError or OSError where the environment cannot be used.
    """
    _quieten()
    session = _Session()
    exporter: SpanExporter = OTLPSpanExporter(session=session)
    try:
        taken = exporter.export([]) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()
    return "" if taken else session.problem


def origin(endpoint: str) -> str:
    """Scheme, host and port of a collector's URL: user and password are nobody's to read."""
    url = urlsplit(endpoint)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _quieten() -> None:
    """What the SDK says of each attempt is said here once."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class Begun:
    """A span that has begun."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def fields(self) -> bytes:
        """`traceparent` and `tracestate` for the next hop, as lines of a head."""
        context = self._span.get_span_context()
        line = f"traceparent: 00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}\r\n"
        if context.trace_state:
            line += f"tracestate: {context.trace_state.to_header()}\r\n"
        return line.encode("ascii")

    def end(self, at: int, facts: Mapping[str, Fact], failed: bool, why: str) -> None:
        """It ends `at` Unix nanoseconds."""
        span = self._span
        if span.is_recording():
            span.set_attributes(facts)
            if failed:
                span.set_status(Status(StatusCode.ERROR, why or None))
        span.end(at)


class _Session(requests.Session):
    """Requests to a collector, which may be anybody; `problem` is why the last one failed."""

    def __init__(self) -> None:
        super().__init__()
        # Neither a proxy of the environment, which is meant for the tunnel, nor a .netrc.
        self.trust_env = False
        self.problem = ""
        self._asking: Any = None
        self._over = False

    def request(self, method: Any, url: Any, *_: Any, timeout: Any = None, **more: Any) -> requests.Response:
        """As in `requests`, with one deadline for all of it."""
        more |= {"allow_redirects": False, "stream": True}
        late = requests.exceptions.Timeout("no answer in time")
        if self._over:
            raise requests.exceptions.RequestException("the process ends")
        self._asking = gevent.getcurrent()
        try:
            with gevent.Timeout(timeout, late):
                response = super().request(method, url, timeout=timeout, **more)
                try:
                    response.raw.read(ANSWER, decode_content=False)
                finally:
                    response.close()
        except Exception as error:
            self.problem = _why(error)
            raise
        finally:
            self._asking = None
        self.problem = f"it answers {response.status_code}"
        if HTTPStatus.MULTIPLE_CHOICES <= response.status_code < HTTPStatus.BAD_REQUEST:
            # To the exporter it would be a success.
            raise requests.exceptions.RequestException(self.problem)
        return response

    def cut(self) -> None:
        """Ask nothing more, and give up what is being asked."""
        self._over = True
        if self._asking is not None:
            gevent.kill(self._asking, requests.exceptions.RequestException("the process ends"))


def _why(error: BaseException) -> str:
    """What went wrong at the bottom of it, without the URL that `requests` puts around it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error)


class _Telling(SpanExporter):
    """An exporter whose failures are told, each TELL seconds at most."""

    def __init__(self, exporter: SpanExporter, session: _Session, endpoint: str) -> None:
        self._exporter = exporter
        self._session = session
        self._where = origin(endpoint)
        self._told = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send these."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.FAILURE and (not self._told or monotonic() - self._told > TELL):
            self._told = monotonic()
            log.warning(
                "traces are lost: the collector does not take them; requests go on as before",
                extra=fields(collector=self._where, reason=self._session.problem),
            )
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is kept here."""
        return True
