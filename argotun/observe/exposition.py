"""A registry as text for Prometheus, encoded in slices so that no stream waits for a scrape.

The encoders are prometheus_client's own. A thousand clusters take them 0.3 s, in which nothing else would
run. In a thread of gevent's pool it would: but for each turn of the event loop the interpreter's lock has to
be waited for, 5 ms at a time. So each family is cut into slices, and the event loop turns between them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gevent
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest as encode_plain
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest

from argotun.turns import NEXT_TURN

CONTENT_TYPE_PLAIN = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every Prometheus reads; the library has no name for it in all versions."""

SLICE = 200
"""Samples between two turns of the event loop; encoding them takes 2 to 3 ms."""

_END = b"# EOF\n"
encode_openmetrics: Callable[[Any], bytes] = generate_latest


def is_openmetrics(accept: str) -> bool:
    """Whether a scraper's Accept header names OpenMetrics."""
    return "application/openmetrics-text" in accept


def render(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """All metrics of `registry` and their content type: OpenMetrics 1.0 where `accept` names it.

    Switches greenlets, so it must not run in the hub.
    """
    if is_openmetrics(accept):
        return b"".join(_slices(registry, encode_openmetrics)) + _END, CONTENT_TYPE_OPENMETRICS
    return b"".join(_slices(registry, encode_plain)), CONTENT_TYPE_PLAIN


def _slices(registry: CollectorRegistry, encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    for family in registry.collect():
        samples = family.samples
        for start in range(0, max(len(samples), 1), SLICE):
            family.samples = samples[start : start + SLICE]
            text = encode(_OneFamily(family)).removesuffix(_END)
            yield _without_head(text) if start else text
            gevent.sleep(NEXT_TURN)


def _without_head(text: bytes) -> bytes:
    """Cut the comment lines: what they say about a family may stand only once."""
    while text.startswith(b"#"):
        text = text[text.index(b"\n") + 1 :]
    return text


class _OneFamily(NamedTuple):
    """A registry that holds one family, which is what an encoder wants."""

    family: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.family
