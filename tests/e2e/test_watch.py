"""Watches: events arrive as they happen, and a watch lasts as long as both ends want it to."""

import gevent
import pytest

from .harness import objects
from .harness.processes import running
from .harness.tunnel import Tunnel
from .harness.way import Watch, Way


def test_kubectl_shows_each_event_while_it_watches(way: Way) -> None:
    way.create("configmaps", objects.configmap("seen", k="1"))
    shown = 'jsonpath={.type} {.object.metadata.name} {.object.data.k}{"\\n"}'
    watching = (
        "get",
        "cm",
        "--field-selector=metadata.name=seen",
        "--watch",
        "--output-watch-events",
        "-o",
        shown,
    )
    with running(way.kubectl.start(*watching)) as kubectl, gevent.Timeout(30):
        assert kubectl.stdout
        assert kubectl.stdout.readline() == b"ADDED seen 1\n"
        way.kubectl.run("patch", "cm", "seen", "-p", '{"data":{"k":"2"}}')
        assert kubectl.stdout.readline() == b"MODIFIED seen 2\n"
        way.kubectl.run("delete", "cm", "seen")
        assert kubectl.stdout.readline() == b"DELETED seen 2\n"


def test_a_watch_ends_in_order_when_the_api_ends_it(way: Way) -> None:
    with way.api.connection() as conn:
        response = way.api.send(
            conn, "GET", f"{way.path('configmaps')}?watch=1&timeoutSeconds=1&resourceVersion=0"
        )
        response.read()  # IncompleteRead unless the last chunk has come
        again = way.api.send(conn, "GET", "/version")
        assert again.status == 200
        again.read()


def test_many_watches_of_one_client_all_see_an_event(way: Way) -> None:
    version = way.api.get(way.path("configmaps")).json()["metadata"]["resourceVersion"]
    path = f"{way.path('configmaps')}?watch=1&resourceVersion={version}"
    watches = [Watch(way.api, path) for _ in range(50)]
    try:
        way.create("configmaps", objects.configmap("for-many-watches"))
        for watch in watches:
            watch.wait_for(f"{way.namespace}/for-many-watches")
            assert not watch.ended
    finally:
        for watch in watches:
            watch.stop()


@pytest.mark.last
def test_a_watch_through_the_tunnel_saw_every_event_of_the_run(
    watch: dict[str, Watch], tunnel: Tunnel, cluster_marker: str
) -> None:
    for one in watch.values():
        one.wait_for(cluster_marker)
    assert watch["tunnel"].ended == "" == watch["direct"].ended
    assert watch["tunnel"].events == watch["direct"].events


@pytest.fixture
def cluster_marker(tunnel: Tunnel) -> str:
    """The name of an object that is created after all others."""
    tunnel.cluster.create("/api/v1/namespaces/default/configmaps", objects.configmap("end-of-the-run"))
    return "default/end-of-the-run"
