"""Which requests may be silent, and which may be ended between two events."""

import pytest

from argotun.server.routes import LASTING, ROUTE, WATCH

POD = b"/api/v1/namespaces/d/pods/p"
WATCHES = [
    b"/api/v1/pods?watch=1",
    b"/api/v1/pods?watch=true&timeoutSeconds=600",
    b"/api/v1/pods?resourceVersion=5&watch=True",
    b"/api/v1/pods?watch",
    b"/api/v1/pods?watch=&limit=5",
    b"/api/v1/pods?watch=yes",
    b"/api/v1/watch/pods",
    b"/apis/apps/v1/watch/namespaces/d/deployments/x",
]
LASTING_ONLY = [
    *(
        POD + b"/" + name
        for name in (b"log", b"log?follow=true", b"exec?command=id", b"attach", b"portforward")
    ),
    POD + b"/proxy",
    POD + b"/proxy/a/b?c",
    b"/api/v1/nodes/n/proxy/metrics",
    b"/api/v1/namespaces/d/services/s:80/proxy/x",
    b"/api/v1/proxy/namespaces/d/pods/p",
    b"/apis/subresources.kubevirt.io/v1/namespaces/d/virtualmachineinstances/v/portforward",
    b"/debug/pprof/profile?seconds=600",
]
ORDINARY = [
    b"/version",
    b"/api/v1/pods",
    b"/api/v1/pods?watch=0",
    b"/api/v1/pods?watch=false&limit=500",
    b"/api/v1/pods?watch=FALSE",
    b"/api/v1/pods?labelSelector=watch",
    b"/api/v1/pods?rewatch=1",
    b"/api/v1/namespaces/watch/pods",
    b"/api/v1/namespaces/d/configmaps/log",
    b"/api/v1/namespaces/log",
    POD + b"/logs",
    POD + b"/status",
    b"/api/v1/namespaces/d/pods/exec",
    b"/apis/example.com/v1/proxies/p",
]


@pytest.mark.parametrize("target", WATCHES)
def test_a_watch_may_be_silent_and_be_ended_between_events(target: bytes) -> None:
    assert WATCH.search(target)
    assert LASTING.search(target)


@pytest.mark.parametrize("target", LASTING_ONLY)
def test_a_stream_may_be_silent_but_not_be_ended(target: bytes) -> None:
    assert LASTING.search(target)
    assert not WATCH.search(target)


@pytest.mark.parametrize("target", ORDINARY)
def test_a_short_answer_may_not_be_silent(target: bytes) -> None:
    assert not LASTING.search(target)


@pytest.mark.parametrize(
    ("target", "cluster"),
    [
        (b"/tunnel/c1/api", b"c1"),
        (b"/tunnel/c1", b"c1"),
        (b"/tunnel/a.b-c_d?x", b"a.b-c_d"),
        (b"/tunnel/", None),
        (b"/tunnel/.c1/api", None),
        (b"/tunnel/c1%2Fapi", None),
        (b"/a/tunnel/c1/api", None),
    ],
)
def test_a_target_leads_to_its_cluster_only(target: bytes, cluster: bytes | None) -> None:
    found = ROUTE.match(target)
    assert (found[1] if found else None) == cluster
