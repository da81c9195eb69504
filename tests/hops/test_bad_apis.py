"""tests/server/test_bad_apis.py by a hop."""

from tests.hops import by_hop

globals().update(
    by_hop(
        "test_bad_apis",
        "test_a_client_that_leaves_while_the_agent_dials_ends_the_dial",
    )
)
