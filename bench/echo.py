"""Answers that say which request they answer, so that no client takes another's for its own."""


def echo(head: bytes) -> bytes:
    """A whole answer to the request with this head: whose credential came with it, its method, its target."""
    line, *fields = head.split(b"\r\n")
    named = dict(field.lower().split(b": ", 1) for field in fields if b": " in field)
    account = named.get(b"authorization", b"nobody").removeprefix(b"bearer ")
    body = said(account.decode(), *line.decode().split(" ")[:2])
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def said(account: str, method: str, target: str) -> bytes:
    """The body of the answer to such a request: `account` is the token of the agent that brought it."""
    return f"{account} {method} {target}".encode()
