"""What the pods of both sides are like, once they are installed as the guide says."""

from tests.nodes.client import Client


def test_a_request_goes_through_the_tunnel(client: Client) -> None:
    asked = client.ask()
    assert (asked.counts, asked.wrong) == ({"200": asked.total}, [])
    assert asked.total > 30
