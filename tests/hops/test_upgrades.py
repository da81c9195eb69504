"""tests/server/test_upgrades.py by a hop."""

from tests.hops import by_hop

globals().update(
    by_hop(
        "test_upgrades",
        "test_nothing_of_a_half_closed_plain_connection_is_lost",
    )
)
