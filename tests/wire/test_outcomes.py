"""What a client gets when something ends: every cell of both tables as text, and what must always hold."""

from pathlib import Path

import pytest

from argotun.wire.outcomes import AGENT, RETRY_AFTER, SERVER, Action, Cause, Progress, Table, Verdict
from tests.wire.mux_peers import grid

SERVER_GRID = """
                WAITING   SENT      DELIVERED BODY BOUNDARY   UNTIL_CLOSE RAW
UNKNOWN_CLUSTER 503-retry –         –         –    –          –           –
NO_AGENT        503-retry –         –         –    –          –           –
RATE_LIMIT      429-retry –         –         –    –          –           –
CALLER          503       –         –         –    –          –           –
REQUEST_INVALID own       own       own       cut  cut        cut         –
CLIENT_ENDED    gone      gone      gone      cut  cut        cut         half
CLIENT_GONE     gone      gone      gone      cut  cut        cut         gone
AGENT_ENDED     –         503-retry 502       cut  cut        done        half
AGENT_CLOSED    –    else-503-retry 502       cut  cut        done        done
AGENT_FULL      –    else-429-retry 502       cut  cut        cut         cut
AGENT_STALE     –         cut       cut       cut  cut        cut         cut
AGENT_FAILED    –    else-503-retry 502       cut  cut        cut         cut
TUNNEL_LOST     –         safe-502  safe-502  cut  cut        cut         cut
NOT_HERE        –   again-503-retry 502       cut  cut        cut         cut
API_INVALID     –         502       502       cut  cut        cut         –
API_SILENT      –         504       504       cut  cut        cut         –
API_STALLED     –         504       504       cut  cut        cut         cut
WATCH_OVER      –         –         –         –    last-chunk –           –
DRAINED         503-retry cut       cut       cut  cut        cut         cut
"""

AGENT_GRID = """
                IDLE    WAITING   DELIVERED KEPT      REPEATABLE BODY  BOUNDARY UNTIL_CLOSE RAW
REQUEST_INVALID own     own       own       own       own        reset reset    reset       –
CLIENT_ENDED    gone    gone      gone      gone      gone       gone  gone     gone        half
CLIENT_GONE     gone    gone      gone      gone      gone       gone  gone     gone        done
TUNNEL_LOST     gone    gone      gone      gone      gone       gone  gone     gone        gone
API_ENDED       release –         502       stale     repeat     cut   cut      done        half
API_LOST        release –         502       stale     repeat     cut   cut      cut         close
API_INVALID     release –         502       502       502        cut   cut      cut         –
API_STALLED     release –         504       504       504        cut   cut      cut         cut
UNREACHABLE     reset   503-retry 503-retry 502       502        –     –        –           –
NO_CREDENTIAL   –       502       502       502       502        –     –        –           –
FORBIDDEN       –       403       403       403       403        –     –        –           –
"""


WORDS = {
    "–": Verdict(Action.NOTHING),
    "own": Verdict(Action.ANSWER),
    "429-retry": Verdict(Action.ANSWER, 429, RETRY_AFTER),
    "503-retry": Verdict(Action.ANSWER, 503, RETRY_AFTER),
    "403": Verdict(Action.ANSWER, 403),
    "502": Verdict(Action.ANSWER, 502),
    "503": Verdict(Action.ANSWER, 503),
    "504": Verdict(Action.ANSWER, 504),
    "else-429-retry": Verdict(Action.ELSEWHERE, 429, RETRY_AFTER),
    "else-503-retry": Verdict(Action.ELSEWHERE, 503, RETRY_AFTER),
    "again-503-retry": Verdict(Action.AGAIN, 503, RETRY_AFTER),
    "safe-502": Verdict(Action.AGAIN_IF_SAFE, 502),
    "cut": Verdict(Action.CUT),
    "done": Verdict(Action.COMPLETE),
    "last-chunk": Verdict(Action.FINAL_CHUNK),
    "half": Verdict(Action.HALF),
    "gone": Verdict(Action.FORGET),
    "stale": Verdict(Action.STALE),
    "repeat": Verdict(Action.REPEAT),
    "reset": Verdict(Action.RESET),
    "release": Verdict(Action.RELEASE),
    "close": Verdict(Action.CLOSE),
}
GRIDS = {"server": (SERVER, grid(SERVER_GRID)), "agent": (AGENT, grid(AGENT_GRID))}

NOTHING_SAID = (Progress.WAITING, Progress.SENT, Progress.DELIVERED, Progress.KEPT, Progress.REPEATABLE)
BEGUN = (Progress.BODY, Progress.BOUNDARY, Progress.UNTIL_CLOSE, Progress.RAW)


def cells(table: Table) -> list[tuple[Cause, Progress, Verdict]]:
    return [(cause, progress, table[cause][progress]) for cause in Cause for progress in Progress]


@pytest.mark.parametrize("role", GRIDS)
def test_every_cell_is_what_the_grid_says(role: str) -> None:
    table, text = GRIDS[role]
    for cause, progress, verdict in cells(table):
        assert verdict == WORDS[text.get((cause.name, progress.name), "–")], (cause.name, progress.name)
    assert {(cause.name, progress.name) for cause, progress, _ in cells(table)} >= set(text)


def test_with_no_request_in_progress_nothing_changes_anything() -> None:
    assert {SERVER[cause][Progress.IDLE].action for cause in Cause} == {Action.NOTHING}


@pytest.mark.parametrize("role", GRIDS)
def test_no_status_is_said_once_an_answer_has_begun(role: str) -> None:
    for cause, progress, verdict in cells(GRIDS[role][0]):
        if progress in BEGUN:
            assert verdict.action != Action.ANSWER, (cause.name, progress.name)


def test_a_client_may_ask_again_only_while_the_api_cannot_have_the_request() -> None:
    for cause, progress, verdict in cells(SERVER):
        if verdict.retry_after:
            assert progress in (Progress.WAITING, Progress.SENT), (cause.name, progress.name)
    for cause, progress, verdict in cells(AGENT):
        if verdict.retry_after:
            # Once it was delivered, only what was repeated, and may be sent any number of times, dials again.
            assert cause == Cause.UNREACHABLE
            assert progress in (Progress.WAITING, Progress.DELIVERED)


def test_an_agent_that_says_that_the_api_may_have_it_has_no_client_ask_again() -> None:
    assert not any(verdict.retry_after for verdict in SERVER[Cause.AGENT_STALE])


@pytest.mark.parametrize("role", GRIDS)
def test_only_those_who_say_that_all_is_said_complete_an_answer(role: str) -> None:
    for cause, progress, verdict in cells(GRIDS[role][0]):
        if verdict.action == Action.COMPLETE:
            assert cause in (Cause.AGENT_ENDED, Cause.AGENT_CLOSED, Cause.API_ENDED, Cause.CLIENT_GONE)
            assert progress in (Progress.UNTIL_CLOSE, Progress.RAW)
        if verdict.action == Action.FINAL_CHUNK:
            assert (cause, progress) == (Cause.WATCH_OVER, Progress.BOUNDARY)


@pytest.mark.parametrize("role", GRIDS)
def test_a_marked_body_is_never_taken_for_whole(role: str) -> None:
    for cause, progress, verdict in cells(GRIDS[role][0]):
        if progress in (Progress.BODY, Progress.BOUNDARY) and cause != Cause.WATCH_OVER:
            assert verdict.action in (Action.NOTHING, Action.CUT, Action.FORGET, Action.RESET)


def test_a_request_that_waits_is_ended_by_the_server_or_its_client_only() -> None:
    for cause in Cause:
        if cause.name.startswith(("AGENT_", "API_", "TUNNEL_")):
            assert SERVER[cause][Progress.WAITING].action == Action.NOTHING


def test_only_what_may_be_sent_twice_is_repeated() -> None:
    repeated = {progress for _, progress, verdict in cells(AGENT) if verdict.action == Action.REPEAT}
    assert repeated == {Progress.REPEATABLE}
    assert not any(verdict.action == Action.REPEAT for _, _, verdict in cells(SERVER))


# ── docs/operations.md says what the code does ─────────────────────────────────────────────────

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


@pytest.mark.parametrize("role", GRIDS)
def test_the_documents_table_is_the_codes(role: str) -> None:
    table = GRIDS[role][0]
    pages = [part.splitlines() for part in OPERATIONS.split("| ended by |")[1:]]
    head, _, *lines = pages[list(GRIDS).index(role)]
    columns = [Progress[name.strip().upper().replace(" ", "_")] for name in head.strip(" |").split("|")]
    said = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *words = [each.strip() for each in line.strip("|").split(" | ")]
        said[Cause[name.split("`")[1]]] = [WORDS[word.strip(" |").replace(" ", "-")] for word in words]
    assert said == {
        cause: [table[cause][progress] for progress in columns]
        for cause in Cause
        if any(verdict.action for verdict in table[cause])
    }
    unseen = set(Progress) - set(columns)
    assert not any(verdict.action for _, progress, verdict in cells(table) if progress in unseen)
