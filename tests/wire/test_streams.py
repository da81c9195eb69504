"""The table of a stream's life, cell by cell, against the same table written for people."""

# ruff: noqa: E501

import pytest

from argotun.wire.streams import (
    ACCEPTOR,
    DISCARD,
    EVENTS,
    ILLEGAL,
    OPENER,
    STATES,
    Backlog,
    Stream,
)
from tests.wire.mux_peers import grid

# A cell is the next state, or "-" where the event breaks the rules.
SERVER = grid("""
                GOT_CONNECTED  GOT_DATA     GOT_END       GOT_WINDOW     GOT_OVER  SEND_CONNECTED  SEND_END       SEND_OVER
OPENING         OPEN           -            -             OPENING        CLOSED    -               OPENING_LOCAL  CLOSED
OPENING_LOCAL   LOCAL_ENDED    -            -             OPENING_LOCAL  CLOSED    -               -              CLOSED
OPENING_REMOTE  -              -            -             -              -         -               -              -
OPEN            -              OPEN         REMOTE_ENDED  OPEN           CLOSED    -               LOCAL_ENDED    CLOSED
LOCAL_ENDED     -              LOCAL_ENDED  CLOSED        LOCAL_ENDED    CLOSED    -               -              CLOSED
REMOTE_ENDED    -              -            -             REMOTE_ENDED   CLOSED    -               CLOSED         CLOSED
CLOSED          -              -            -             -              -         -               -              -
""")

AGENT = grid("""
                GOT_CONNECTED  GOT_DATA     GOT_END         GOT_WINDOW      GOT_OVER  SEND_CONNECTED  SEND_END     SEND_OVER
OPENING         -              OPENING      OPENING_REMOTE  OPENING         CLOSED    OPEN            -            CLOSED
OPENING_LOCAL   -              -            -               -               -         -               -            -
OPENING_REMOTE  -              -            -               OPENING_REMOTE  CLOSED    REMOTE_ENDED    -            CLOSED
OPEN            -              OPEN         REMOTE_ENDED    OPEN            CLOSED    -               LOCAL_ENDED  CLOSED
LOCAL_ENDED     -              LOCAL_ENDED  CLOSED          LOCAL_ENDED     CLOSED    -               -            CLOSED
REMOTE_ENDED    -              -            -               REMOTE_ENDED    CLOSED    -               CLOSED       CLOSED
CLOSED          -              -            -               -               -         -               -            -
""")

ROLES = {"server": (OPENER, SERVER), "agent": (ACCEPTOR, AGENT)}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("role", ROLES)
def test_the_transitions_are_those_of_the_table_for_people(role: str, state: str, event: str) -> None:
    table, expected = ROLES[role]
    move = table[STATES.index(state)][EVENTS.index(event)]
    assert ("-" if move == ILLEGAL else STATES[move]) == expected[state, event]


@pytest.mark.parametrize("role", ROLES)
def test_every_state_can_be_reached_and_left(role: str) -> None:
    table, expected = ROLES[role]
    reachable, frontier = set(), ["OPENING"]
    while frontier:
        state = frontier.pop()
        reachable.add(state)
        frontier += {STATES[move] for move in table[STATES.index(state)] if move != ILLEGAL} - reachable
    used = {row for (row, _), cell in expected.items() if cell != "-"}
    assert reachable == used | {"CLOSED"}
    for state in used:
        assert expected[state, "GOT_OVER"] == expected[state, "SEND_OVER"] == "CLOSED"


def test_a_stream_says_its_state_in_a_log() -> None:
    assert repr(Stream(7, 1, 1, DISCARD, Backlog(0))) == "<stream 7 OPENING queued=0>"


def test_a_new_stream_has_no_dictionary() -> None:
    assert not hasattr(Stream(1, 1, 1, DISCARD, Backlog(0)), "__dict__")


def test_the_discarding_sink_takes_every_call() -> None:
    DISCARD.on_connected()
    DISCARD.on_data(b"x")
    DISCARD.on_end()
    DISCARD.on_over(0, "")
    DISCARD.on_lost("gone")
