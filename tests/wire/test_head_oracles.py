"""What we accept, h11 and llhttp read alike: same start line, same fields, same end of the message.

They may refuse more than we do, and we more than they; what none may do is read the same bytes differently.
Where that is known to happen, the exception is named here with its reason.
"""

import pytest

from argotun.wire.head import (
    UNTIL_CLOSE,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
    rewrite_request,
    rewrite_response,
)
from tests.wire.http_corpus import Case, load
from tests.wire.http_oracles import (
    body_for,
    h11_request,
    h11_response,
    llhttp_request,
    llhttp_response,
    ours,
)

VALID_REQUESTS = load("request/valid")
VALID_RESPONSES = load("response/valid")


def check_request(data: bytes, head: RequestHead) -> tuple[bool, bool]:
    """Compare our reading with both; returns which of them accepted."""
    body = body_for(head.length)
    theirs = h11_request(data, body), llhttp_request(data, body)
    if theirs[1] is not None and b"upgrade" in head.connection and not head.upgrade:
        # For llhttp any Upgrade ends the message. One that we do not know is not sent on; its body is a body.
        theirs[1].over_after = ours(head).over_after
    for reading in theirs:
        assert reading is None or reading == ours(head)
    return theirs[0] is not None, theirs[1] is not None


def check_response(data: bytes, head: ResponseHead, method: bytes) -> tuple[bool, bool]:
    """Compare our reading with both; returns which of them accepted."""
    body = body_for(head.length)
    theirs = h11_response(data, body, method), llhttp_response(data, body)
    assert theirs[0] is None or theirs[0] == ours(head)
    if theirs[1] is not None:
        if method == b"HEAD" or head.status == 304:
            # llhttp cannot know about HEAD, and waits for the body that a 304 only describes.
            theirs[1].over_after = ours(head).over_after
        assert theirs[1] == ours(head)
    return theirs[0] is not None, theirs[1] is not None


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_request_of_the_corpus_is_read_alike(case: Case) -> None:
    head = parse_request(case.data)
    assert check_request(case.data, head) == (True, True)


@pytest.mark.parametrize("case", VALID_REQUESTS, ids=str)
def test_request_that_we_send_on_is_read_alike(case: Case) -> None:
    head = parse_request(case.data)
    sent = rewrite_request(head, head.target, host=b"kubernetes")
    assert check_request(sent, parse_request(sent)) == (True, True)


@pytest.mark.parametrize("case", VALID_RESPONSES, ids=str)
def test_response_of_the_corpus_is_read_alike(case: Case) -> None:
    method = case.expect["to"].encode()
    head = parse_response(case.data, method)
    assert check_response(case.data, head, method) == (True, True)


@pytest.mark.parametrize("case", VALID_RESPONSES, ids=str)
def test_response_that_we_send_on_is_read_alike(case: Case) -> None:
    method = case.expect["to"].encode()
    head = parse_response(case.data, method)
    sent = rewrite_response(head, close=head.length == UNTIL_CLOSE)
    assert check_response(sent, parse_response(sent, method), method) == (True, True)
