"""One trace from a caller through server and agent to kube-apiserver, all against one collector."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.collector import Collector, Seen
from tests.secrecy import watch

from .harness import binaries
from .harness.cluster import Cluster
from .harness.tunnel import Tunnel

SERVER, AGENT, API = "argotun-server", "argotun-agent", "apiserver"
KIND_SERVER = 2
CONFIGURATION = """\
apiVersion: apiserver.config.k8s.io/v1
kind: TracingConfiguration
endpoint: {endpoint}
samplingRatePerMillion: {rate}
"""
# kube-apiserver takes the parent from two groups only; the other one may do everything.
ACCOUNT = '{token},tracer,tracer,"system:monitoring"\n'


@dataclass
class Traced:
    """A tunnel to an API server that traces, and the collector of both."""

    tunnel: Tunnel
    collector: Collector
    monitoring: str

    def ask(self, name: str) -> tuple[str, str]:
        """Ask for what is not there, as a caller with a span of its own; that, as trace and span."""
        trace, span = secrets.token_hex(16), secrets.token_hex(8)
        answer = self.tunnel.endpoint.get(
            f"/api/v1/namespaces/default/configmaps/{name}?secret=in-the-query",
            traceparent=f"00-{trace}-{span}-01",
            Audit_ID=name,
        )
        assert answer.status in (403, 404), answer
        return trace, span

    def spans(self, audit_id: str) -> tuple[Seen, Seen, Seen]:
        """Those of server, agent and API for one request."""
        found = self.collector.wait

        def ours(span: Seen) -> bool:
            return bool(span.facts.get("argotun.audit_id") == audit_id)

        def theirs(span: Seen) -> bool:
            # It has further ones below that, for what it does.
            return span.kind == KIND_SERVER and span.facts.get("audit-id") == audit_id

        return found(SERVER, ours), found(AGENT, ours), found(API, theirs)


@pytest.fixture(scope="module")
def traced(kubernetes: binaries.Binaries, folder: Path) -> Iterator[Traced]:
    here = folder / "traced"
    here.mkdir()
    token = secrets.token_urlsafe(32)
    watch.hold(token)
    accounts, configuration = here / "accounts.csv", here / "tracing.yaml"
    accounts.write_text(ACCOUNT.format(token=token))
    with Collector() as collector, pytest.MonkeyPatch.context() as environment:
        configuration.write_text(CONFIGURATION.format(endpoint=collector.address, rate=1_000_000))
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        cluster = Cluster(
            kubernetes,
            here / "cluster",
            f"--tracing-config-file={configuration}",
            f"--token-auth-file={accounts}",
        )
        try:
            cluster.start()
            tunnel = Tunnel(cluster, here / "tunnel")
            try:
                tunnel.start()
                yield Traced(tunnel, collector, token)
            finally:
                tunnel.stop()
        finally:
            cluster.stop()


def test_an_agents_account_gets_a_trace_that_links_to_its_own(traced: Traced) -> None:
    trace, span = traced.ask("linked")
    server, agent, api = traced.spans("linked")
    assert (server.trace, server.parent) == (trace, span)
    assert (agent.trace, agent.parent) == (trace, server.id)
    assert api.links == [(trace, agent.id)]
    assert api.parent == ""


def test_an_account_for_monitoring_gets_one_tree(traced: Traced) -> None:
    traced.tunnel.give_account_token(traced.monitoring)
    try:
        # The agent follows the file, and until then uses the token that it has.
        traced.tunnel.stop_agent()
        traced.tunnel.start_agent()
        traced.tunnel.wait()
        trace, span = traced.ask("tree")
        server, agent, api = traced.spans("tree")
    finally:
        traced.tunnel.give_account_token(traced.tunnel.cluster.token())
    assert {server.trace, agent.trace, api.trace} == {trace}
    assert (server.parent, agent.parent, api.parent) == (span, server.id, agent.id)
    # One clock: each lies within the one above it.
    starts = [each.start for each in (server, agent, api)]
    ends = [each.end for each in (api, agent, server)]
    assert starts == sorted(starts)
    assert ends == sorted(ends)
    assert {each.facts["http.response.status_code"] for each in (server, agent)} == {403}


def test_nothing_of_a_query_is_in_the_spans_of_argotun(traced: Traced) -> None:
    traced.ask("quiet")
    for span in traced.spans("quiet")[:2]:
        assert span.facts["url.path"] == "/api/v1/namespaces/default/configmaps/quiet"
        assert "in-the-query" not in repr(span)
