"""The one answer of a request: what of it goes on, and that there is only one."""

from itertools import product

import pytest

from argotun.errors import HeadError
from argotun.wire import answer as module
from argotun.wire.answer import MAX_INTERIM, Answer
from argotun.wire.head import parse_request
from argotun.wire.outcomes import AGENT, SERVER, Action, Cause, Progress, Verdict
from argotun.wire.relay import BODY, HEAD, IDLE, RAW

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def asked(
    line: bytes = b"GET / HTTP/1.1",
    fields: bytes = b"",
    *,
    stage: Progress = Progress.DELIVERED,
    agent: bool = False,
) -> Answer:
    answer = Answer(AGENT, chunks=True, origins={b"https://api.example"}) if agent else Answer(SERVER)
    answer.ask(parse_request(line + b"\r\nHost: a\r\n" + fields + b"\r\n"), stage)
    return answer


def test_an_answer_passes_whole_and_then_nothing_is_taken() -> None:
    answer = asked()
    assert answer.heads(OK + b"more") == (OK, len(OK))
    assert (answer.state, answer.status, answer.progress) == (IDLE, 200, Progress.IDLE)
    assert answer.take(b"more") == (b"", 0)


@pytest.mark.parametrize("cut", range(1, len(OK)))
def test_an_answer_passes_whole_wherever_it_was_cut(cut: int) -> None:
    answer = asked()
    out = b""
    for piece in (OK[:cut], OK[cut:]):
        part, used = answer.heads(piece) if answer.state == HEAD else answer.take(piece)
        assert used == len(piece)
        out += part
    assert (out, answer.state) == (OK, IDLE)


@pytest.mark.parametrize("state", ["waiting", "idle"])
def test_nothing_is_taken_while_nobody_was_asked(state: str) -> None:
    answer = asked(stage=Progress.WAITING)
    if state == "idle":
        answer.stop()
        assert answer.take(OK) == (b"", 0)
    else:
        assert answer.heads(OK) == (b"", 0)
        assert answer.progress == Progress.WAITING


def test_an_answer_to_head_has_no_body() -> None:
    answer = asked(b"HEAD / HTTP/1.1")
    head = OK[:-2]
    assert answer.heads(OK) == (head, len(head))
    assert answer.state == IDLE


@pytest.mark.parametrize("count", [1, MAX_INTERIM])
def test_interim_answers_pass_before_the_final_one(count: int) -> None:
    answer = asked()
    data = CONTINUE * count + OK
    assert answer.heads(data) == (data, len(data))


def test_too_many_interim_answers_are_refused() -> None:
    with pytest.raises(HeadError, match="interim"):
        asked().heads(CONTINUE * (MAX_INTERIM + 1) + OK)


def test_interim_answers_are_counted_over_many_pieces() -> None:
    answer = asked()
    for _ in range(MAX_INTERIM):
        answer.heads(CONTINUE)
    with pytest.raises(HeadError, match="interim"):
        answer.heads(CONTINUE)


def test_a_message_full_of_interim_answers_is_read_no_further_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[int] = []
    parse = module.parse_response
    monkeypatch.setattr(module, "parse_response", lambda *given: (read.append(1), parse(*given))[1])
    with pytest.raises(HeadError):
        asked().heads(b"HTTP/1.1 100 \r\n\r\n" * 250_000)
    assert len(read) == MAX_INTERIM + 1


def test_a_client_of_http_1_0_gets_no_interim_answer() -> None:
    assert asked(b"GET / HTTP/1.0").heads(CONTINUE + OK)[0] == OK


def test_a_switch_comes_out_alone() -> None:
    answer = asked(fields=b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n")
    head = SWITCH % b"SPDY/3.1"
    assert answer.heads(head + b"raw") == (head, len(head))
    assert (answer.state, answer.status, answer.last) == (RAW, 101, True)
    assert answer.take(b"raw") == (b"raw", 3)


@pytest.mark.parametrize(
    "fields", [b"", b"Connection: Upgrade\r\nUpgrade: websocket\r\n"], ids=["no", "another"]
)
def test_a_switch_to_what_was_not_asked_for_is_refused(fields: bytes) -> None:
    with pytest.raises(HeadError, match="switch"):
        asked(fields=fields).heads(SWITCH % b"SPDY/3.1")


def test_a_body_until_the_close_ends_the_connection_on_the_server() -> None:
    answer = asked()
    assert answer.heads(UNTIL_CLOSE + b"x") == (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx", 20)
    assert (answer.progress, answer.last) == (Progress.UNTIL_CLOSE, True)
    assert answer.end(Cause.AGENT_ENDED).action == Action.COMPLETE
    assert answer.final == b""


def test_a_body_until_the_close_goes_on_in_chunks_from_the_agent() -> None:
    answer = asked(agent=True)
    out, _ = answer.heads(UNTIL_CLOSE + b"x")
    assert out == b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
    assert answer.take(b"yz") == (b"2\r\nyz\r\n", 2)
    assert answer.end(Cause.API_ENDED).action == Action.COMPLETE
    assert answer.final == b"0\r\n\r\n"


def test_a_last_chunk_completes_no_answer_but_the_one_that_was_chunked() -> None:
    answer = asked(agent=True)
    answer.heads(UNTIL_CLOSE + b"x")
    answer.end(Cause.API_ENDED)
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    answer.ask(parse_request(upgrade), Progress.DELIVERED)
    answer.heads(SWITCH % b"websocket")
    assert (answer.state, answer.final) == (RAW, b"")


def test_a_client_of_http_1_0_gets_no_chunks() -> None:
    answer = asked(b"GET / HTTP/1.0", agent=True)
    assert b"chunked" not in answer.heads(UNTIL_CLOSE + b"x")[0]
    assert answer.last


def test_an_answer_that_is_the_last_says_so() -> None:
    answer = asked()
    answer.last = True
    assert b"Connection: close\r\n" in answer.heads(OK)[0]


@pytest.mark.parametrize(
    ("stage", "data", "after"),
    [
        (Progress.KEPT, b"HTTP/1.1 2", Progress.DELIVERED),
        (Progress.REPEATABLE, CONTINUE, Progress.DELIVERED),
    ],
)
def test_what_has_spoken_is_no_longer_taken_for_dead(stage: Progress, data: bytes, after: Progress) -> None:
    answer = asked(stage=stage, agent=True)
    assert answer.progress == stage
    answer.heads(data)
    assert answer.progress == after


def test_between_two_chunks_is_a_boundary() -> None:
    answer = asked()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer.heads(head + b"1\r\nx\r\n")
    assert answer.progress == Progress.BOUNDARY
    answer.take(b"2\r\ny")
    assert answer.progress == Progress.BODY


BAD_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno chunk"


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("before", [b"", CONTINUE])
def test_a_client_that_has_nothing_of_a_bad_answer_is_told_so(agent: bool, before: bytes) -> None:
    answer = asked(agent=agent)
    with pytest.raises(HeadError, match="chunk"):
        answer.heads(before + BAD_CHUNKS)
    assert (answer.progress, answer.status) == (Progress.DELIVERED, 0)
    assert answer.end(Cause.API_INVALID) == Verdict(Action.ANSWER, 502)


def test_a_client_that_has_a_part_of_a_bad_answer_is_cut_off() -> None:
    answer = asked()
    answer.heads(BAD_CHUNKS[:-8])
    with pytest.raises(HeadError, match="chunk"):
        answer.take(BAD_CHUNKS[-8:])
    assert answer.end(Cause.API_INVALID) == Verdict(Action.CUT)


def test_a_request_that_is_asked_again_is_asked_once_more_only() -> None:
    answer = asked(stage=Progress.REPEATABLE, agent=True)
    assert answer.end(Cause.API_ENDED).action == Action.REPEAT
    assert answer.progress == Progress.DELIVERED
    assert answer.end(Cause.API_ENDED).action == Action.ANSWER
    assert answer.state == IDLE


@pytest.mark.parametrize("first", [Cause.CLIENT_ENDED, Cause.AGENT_ENDED])
def test_two_halves_make_a_whole(first: Cause) -> None:
    second = Cause.AGENT_ENDED if first == Cause.CLIENT_ENDED else Cause.CLIENT_ENDED
    answer = asked(fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    answer.heads(SWITCH % b"websocket")
    assert answer.end(first).action == Action.HALF
    assert (answer.half, answer.state) == (first, RAW)
    assert answer.end(first).action == Action.HALF
    assert answer.end(second).action == Action.COMPLETE
    assert (answer.half, answer.state) == (None, IDLE)


@pytest.mark.parametrize("stage", [Progress.WAITING, Progress.SENT, Progress.DELIVERED])
def test_a_request_is_answered_once_whatever_comes_after(stage: Progress) -> None:
    for causes in product(Cause, Cause):
        answer = asked(stage=stage)
        actions = [answer.end(cause).action for cause in causes]
        # What is asked again has no answer yet.
        assert sum(Action.NOTHING < action < Action.ELSEWHERE for action in actions) <= 1, causes


# ── where an answer may lead ───────────────────────────────────────────────────────────────────


def redirect(location: bytes, status: bytes = b"302") -> bytes:
    return b"HTTP/1.1 %b Found\r\nA: b\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)


def test_a_path_of_this_api_gets_the_prefix_and_keeps_its_place() -> None:
    answer = asked()
    answer.prefix = b"/tunnel/c1"
    out, _ = answer.heads(redirect(b"/api/x?y=//z"))
    assert out == redirect(b"/tunnel/c1/api/x?y=//z")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        (b"https://api.example/api/x", b"/api/x"),
        (b"HTTPS://API.example/api/x", b"/api/x"),
        (b"https://api.example", b"/"),
        (b"https://api.example?x=1", b"/?x=1"),
        (b"/api/x", b"/api/x"),
    ],
)
def test_the_apis_own_origin_becomes_a_path_on_the_agent(location: bytes, path: bytes) -> None:
    assert asked(agent=True).heads(redirect(location))[0] == redirect(path)


@pytest.mark.parametrize(
    "location",
    [
        b"https://evil.example/",
        b"http://api.example/",
        b"https://api.example:444/",
        b"https://api.example.evil/",
        b"https://api.example@evil.example/",
        b"https://user@api.example/",
        b"https://api.example//evil",
        b"https://api.example/../x",
        b"//api.example/x",
        b"api.example",
        b"",
    ],
)
@pytest.mark.parametrize("agent", [True, False])
def test_a_redirect_that_leads_elsewhere_is_refused_on_either_side(location: bytes, agent: bool) -> None:
    with pytest.raises(HeadError, match="redirect"):
        asked(agent=agent).heads(redirect(location))


@pytest.mark.parametrize("second", [b"/b", b"/a", b""])
@pytest.mark.parametrize("space", [b"", b" "])
def test_a_redirect_to_two_places_is_refused(second: bytes, space: bytes) -> None:
    lines = b"Location:%b/a\r\nLOCATION:%b%b\r\n" % (space, space, second)
    with pytest.raises(HeadError, match="redirect"):
        asked().heads(b"HTTP/1.1 302 Found\r\n" + lines + b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize("status", [b"201", b"200", b"404", b"503"])
def test_a_location_that_no_client_follows_stays_as_it_is(status: bytes) -> None:
    said = redirect(b"https://other.example/x", status)
    assert asked().heads(said)[0] == said


def test_not_modified_passes() -> None:
    said = b"HTTP/1.1 304 Not Modified\r\nLocation: https://other.example/\r\n\r\n"
    assert asked().heads(said)[0] == said


def test_the_state_says_what_the_client_has() -> None:
    answer = asked(stage=Progress.SENT)
    assert answer.progress == Progress.SENT
    answer.heads(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
    assert (answer.state, answer.progress) == (BODY, Progress.BODY)
