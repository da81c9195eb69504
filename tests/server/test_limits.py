"""Limits: who is over one is told 429 and when to come back, and all is normal once there is room."""

import pytest

from argotun.server.ratelimit import TokenBucket
from tests.rig import Api, Peer, Response, Rig, until


def too_many(response: Response, words: str) -> None:
    assert (response.status, response.header("retry-after")) == (429, "1")
    status = response.json()
    assert (status["kind"], status["reason"]) == ("Status", "TooManyRequests")
    assert words in status["message"]


def silent(peer: Peer) -> None:
    peer.rest()


class Clock:
    """What the buckets take for the time; it stands still unless a test moves it."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, take = Clock(), TokenBucket.take
    monkeypatch.setattr(TokenBucket, "take", lambda bucket, _: take(bucket, clock.now))
    return clock


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_streams_over_the_agents_limit_are_a_429_until_one_ends(method: bytes) -> None:
    request = method + b" /tunnel/c1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    with Rig(Api(silent), agent={"max_conns": 3}) as rig:
        clients = [rig.client() for _ in range(3)]
        for client in clients:
            client.send(request)
        until(lambda: len(rig.api.live) == 3, "three requests")
        late = rig.client()
        for _ in range(3):
            late.send(request)
            too_many(late.response(), "limit of streams")
        assert rig.api.connections == 3
        clients[0].close()
        until(lambda: len(rig.api.live) == 2, "the end of one")
        late.send(request)
        until(lambda: len(rig.api.live) == 3, "the late request")


def test_requests_over_the_servers_rate_are_a_429_until_time_has_passed(clock: Clock) -> None:
    with Rig(server={"rate_limit": 5.0}) as rig:
        client = rig.client()
        answers = [rig.get(client=client) for _ in range(12)]
        assert [answer.status for answer in answers[:5]] == [200] * 5
        for answer in answers[5:]:
            too_many(answer, "rate limit")
        clock.now += 0.2
        assert rig.get(client=client).status == 200
        assert rig.api.connections == 1
        assert rig.get("/healthz").status == 200


def test_requests_over_a_clusters_rate_do_not_concern_another_cluster(clock: Clock) -> None:
    with Rig(cluster={"rateLimit": 3}) as rig:
        rig.write_clusters(
            [{"id": "c1", "token": rig.TOKEN, "rateLimit": 3}, {"id": "c2", "token": "token-of-agent-c2"}]
        )
        rig.server.clusters.refresh()
        rig.start_agent(token="token-of-agent-c2")
        client = rig.client()
        statuses = [rig.get(client=client).status for _ in range(8)]
        assert statuses == [200] * 3 + [429] * 5
        too_many(rig.get(client=client), "cluster 'c1'")
        assert {rig.get("/tunnel/c2/x", client=client).status for _ in range(8)} == {200}
        clock.now += 1 / 3
        assert rig.get(client=client).status == 200


def test_a_client_that_is_refused_for_its_rate_does_not_reach_the_api(clock: Clock) -> None:
    heads: list[bytes] = []

    def script(peer: Peer) -> None:
        while True:
            heads.append(peer.head())
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Rig(Api(script), server={"rate_limit": 2.0}) as rig:
        client = rig.client()
        statuses = [rig.get(client=client).status for _ in range(20)]
        assert len(heads) == statuses.count(200)
        assert statuses == [200] * 2 + [429] * 18


def test_many_idle_and_busy_clients_come_and_go_without_a_trace() -> None:
    with Rig(server={"reconnect_grace": 0.0}) as rig:
        for _ in range(3):
            clients = [rig.client() for _ in range(60)]
            for number, client in enumerate(clients):
                client.send(b"GET /tunnel/c%d/x HTTP/1.1\r\nHost: a\r\n\r\n" % (1 + number % 2))
            assert sorted({client.response().status for client in clients}) == [200, 503]
            for client in clients:
                client.close()
            rig.settle()
