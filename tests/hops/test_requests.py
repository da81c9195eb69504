"""tests/server/test_requests.py by a hop."""

from tests.hops import by_hop

globals().update(
    by_hop(
        "test_requests",
        "test_streams_are_gone_when_their_clients_are",
    )
)
