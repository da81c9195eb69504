"""The answers of argotun's own, as client-go and a person read them."""

import json
from http import HTTPStatus

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from argotun.observe.logs import escape
from argotun.wire.head import parse_response
from argotun.wire.status import MAX_MESSAGE, error_response, is_hurried

REASONS = {
    400: "BadRequest",
    413: "RequestEntityTooLarge",
    429: "TooManyRequests",
    431: "BadRequest",
    500: "InternalError",
    501: "InternalError",
    502: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
    505: "InternalError",
}


def read(said: tuple[int, bytes], method: str = "GET") -> tuple[h11.Response, bytes]:
    """The answer as h11 reads it: one whole message without a byte left over, of the status returned."""
    status, answer = said
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    assert response.status_code == status
    return response, body


def header(response: h11.Response, name: bytes) -> list[bytes]:
    return [value for field, value in response.headers if field == name]


@pytest.mark.parametrize(("code", "reason"), REASONS.items())
def test_body_is_a_status_with_the_reason_of_kubernetes(code: int, reason: str) -> None:
    response, body = read(error_response(code, "no agent of cluster a is connected"))
    assert response.status_code == code
    assert header(response, b"content-type") == [b"application/json"]
    assert header(response, b"content-length") == [b"%d" % len(body)]
    assert header(response, b"x-content-type-options") == [b"nosniff"]
    assert header(response, b"retry-after") == []
    assert json.loads(body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "argotun: no agent of cluster a is connected",
        "reason": reason,
        "details": {},
        "code": code,
    }


@pytest.mark.parametrize("code", REASONS)
def test_words_of_the_status_line_are_those_of_the_registry(code: int) -> None:
    # RFC 9110 renamed one that older versions of the standard library still call by its former name.
    renamed = {413: "Content Too Large"}
    assert read(error_response(code, "x"))[0].reason.decode() == renamed.get(code, HTTPStatus(code).phrase)


def test_retry_after_is_said_in_the_head_and_in_the_body() -> None:
    response, body = read(error_response(503, "x", retry_after=2))
    assert header(response, b"retry-after") == [b"2"]
    assert json.loads(body)["details"] == {"retryAfterSeconds": 2}


def test_message_is_introduced_once() -> None:
    assert json.loads(read(error_response(502, "argotun: x"))[1])["message"] == "argotun: x"


@pytest.mark.parametrize("close", [True, False])
def test_connection_close_is_said_when_it_is_meant(close: bool) -> None:
    answer = error_response(400, "x", close=close)
    assert header(read(answer)[0], b"connection") == ([b"close"] if close else [])
    assert parse_response(answer[1].split(b"\r\n\r\n")[0] + b"\r\n\r\n", b"GET").keep_alive is not close


@pytest.mark.parametrize("code", [503, 400])
@pytest.mark.parametrize("target", [b"/api/v1/pods", b"/version"])
def test_answer_to_head_has_the_same_head_and_no_body(code: int, target: bytes) -> None:
    whole = error_response(code, "x", retry_after=1, target=target)[1]
    assert (
        error_response(code, "x", retry_after=1, target=target, head_only=True)[1]
        == whole[: whole.index(b"\r\n\r\n") + 4]
    )
    assert read(error_response(code, "x", head_only=True), "HEAD")[1] == b""


@pytest.mark.parametrize(
    "target",
    [
        *(
            b"/version",
            b"/version?timeout=32s",
            b"/version/",
            b"/api",
            b"/api?timeout=32s",
            b"/api/",
            b"/apis",
            b"/apis/",
        ),
        *(
            b"/openapi/v2",
            b"/openapi/v2?timeout=32s",
            b"/openapi/v3/apis/apps/v1?hash=1",
            b"/openapi",
            b"/apis?a=/b",
        ),
    ],
)
def test_unavailable_on_discovery_becomes_text_that_kubectl_shows(target: bytes) -> None:
    response, body = read(error_response(503, "no agent", retry_after=1, target=target))
    assert response.status_code == 502
    assert header(response, b"content-type") == [b"text/plain; charset=utf-8"]
    assert header(response, b"retry-after") == [b"1"]
    assert body == b"argotun: no agent"


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"/",
        b"/api/v1",
        b"/apis/apps/v1/pods",
        b"/versions",
        b"/apiss",
        b"/openapis",
        b"/x?/api",
        b"//api",
    ],
)
def test_unavailable_elsewhere_stays_a_status(target: bytes) -> None:
    response, body = read(error_response(503, "no agent", target=target))
    assert response.status_code == 503
    assert json.loads(body)["code"] == 503


def test_a_mistake_in_the_url_of_discovery_becomes_text_that_kubectl_shows() -> None:
    response, body = read(error_response(400, "no such path", target=b"/api?timeout=32s"))
    assert response.status_code == 502
    assert header(response, b"content-type") == [b"text/plain; charset=utf-8"]
    assert header(response, b"retry-after") == []
    assert body == b"argotun: no such path"


@pytest.mark.parametrize("code", [code for code in REASONS if code not in (400, 503)])
def test_other_codes_on_discovery_stay_as_they_are(code: int) -> None:
    response, body = read(error_response(code, "x", target=b"/api"))
    assert response.status_code == code
    assert json.loads(body)["code"] == code


@given(
    st.text(max_size=60) | st.text(st.sampled_from("\r\n\x00\x7f\x85\u2028\ud800 aé"), max_size=20),
    st.sampled_from([b"", b"/api"]),
)
def test_message_cannot_break_out_of_its_line(message: str, target: bytes) -> None:
    body = read(error_response(503, message, target=target))[1]
    text = body.decode() if target else json.loads(body)["message"]
    assert text.startswith("argotun:")
    assert len(text.splitlines()) == 1
    assert not set(text) & set(map(chr, [*range(32), *range(127, 160)]))


@pytest.mark.parametrize("mark", [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x061C, 0x200E, 0x200F])
@pytest.mark.parametrize("target", [b"/api/v1/pods", b"/version"])
def test_message_cannot_turn_the_order_of_a_terminal(mark: int, target: bytes) -> None:
    _, body = read(error_response(503, f"failed{chr(mark)} gpj.exe", target=target))
    text = body.decode()
    assert "argotun: failed  gpj.exe" in (text if target == b"/version" else json.loads(text)["message"])


def test_what_a_log_escapes_is_in_no_message() -> None:
    marks = [chr(code) for code in range(0x10000) if escape(chr(code)) != chr(code)]
    assert len(marks) > 70
    for mark in marks:
        _, body = read(error_response(502, f"a{mark}b"))
        assert json.loads(body)["message"] == "argotun: a b"


def test_message_is_bounded() -> None:
    text = json.loads(read(error_response(500, "x" * 100_000))[1])["message"]
    assert len(text) == MAX_MESSAGE
    assert text.endswith("x…")


def test_unknown_code_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        error_response(418, "x")


@pytest.mark.parametrize(
    ("target", "hurried"),
    [
        (b"/version", True),
        (b"/api/v1?timeout=32s", True),
        (b"/apis/apps", True),
        (b"/apis/apps/v1/", True),
        (b"/api/v1/pods", False),
        (b"/apis/apps/v1/deployments?limit=1", False),
        (b"/healthz", False),
    ],
)
def test_what_says_which_kinds_there_are_is_hurried_as_discovery_is(target: bytes, hurried: bool) -> None:
    assert is_hurried(target) is hurried
