"""tests/server/test_bad_clients.py by a hop."""

from tests.hops import by_hop

globals().update(
    by_hop(
        "test_bad_clients",
        "test_a_client_that_leaves_while_no_agent_is_there_leaves_nothing_and_asks_nothing",
    )
)
