"""One GET of `/status`: its JSON, or a sentence about why there is none."""

import json
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from argotun import USER_AGENT
from argotun.config import StatusConfig
from argotun.errors import ConfigError, CredentialError, TransportError
from argotun.files import unmarked
from argotun.transport.explain import explain
from argotun.transport.reply import printable

TIMEOUT = 10.0
"""Seconds for the connection, and between two pieces of the answer."""

LARGEST = 64 << 20
"""Bytes of an answer: a thousand clusters are less than one MiB."""

_PIECE = 1 << 16

_OF_TLS = (b"TLS", b"HTTPS")
"""What a port says, ours or another's, that was asked in plain HTTP."""


def ask(config: StatusConfig) -> dict[str, Any]:
    """What stands at `--status-url`; raises ArgotunError."""
    url = config.status_url
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **_token(config)}
    client = _pair(config)
    session = requests.Session()
    # Neither a proxy nor ~/.netrc: this is a port of one's own, perhaps one that is forwarded.
    session.trust_env = False
    try:
        with session.get(
            url,
            headers=headers,
            verify=config.status_ca_cert or True,
            cert=client,
            timeout=TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as answer:
            body = _body(answer.iter_content(_PIECE), url)
            return _status(answer, body, config)
    except (requests.RequestException, OSError) as error:
        raise TransportError(f"{url} cannot be asked: {_reason(error)}{_hint(error, config)}") from None
    finally:
        session.close()


def _pair(config: StatusConfig) -> tuple[str, str] | None:
    cert, key = config.status_client_cert, config.status_client_key
    return (cert, key) if cert and key else None


def _token(config: StatusConfig) -> dict[str, str]:
    if config.status_token_file is None:
        return {}
    try:
        token = unmarked(Path(config.status_token_file).read_bytes()).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not ASCII"
        raise ConfigError(
            "--status-token-file", config.status_token_file, f"a readable file ({why})"
        ) from None
    if not token or not token.isprintable() or " " in token:
        raise ConfigError("--status-token-file", config.status_token_file, "a file that holds one token")
    return {"Authorization": f"Bearer {token}"}


def _body(pieces: Iterator[bytes], url: str) -> bytes:
    body = bytearray()
    for piece in pieces:
        body += piece
        if len(body) > LARGEST:
            raise TransportError(f"{url} answers with more than {LARGEST} bytes: that is no argotun")
    return bytes(body)


def _status(answer: requests.Response, body: bytes, config: StatusConfig) -> dict[str, Any]:
    """The JSON of an argotun; raises TransportError or CredentialError."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    message = said.get("message")
    if answer.ok and ("clusters" in said or "tunnels" in said):
        return said
    url, code = config.status_url, answer.status_code
    if isinstance(message, str) and message.startswith("argotun: "):
        raise CredentialError(
            f"{url} refuses ({code}): {printable(message)[len('argotun: ') :]}{_how(config)}"
        )
    if code == HTTPStatus.BAD_REQUEST and url.startswith("http://") and any(word in body for word in _OF_TLS):
        raise TransportError(
            f"{url} cannot be asked: plain HTTP was spoken to it; a port with TLS wants https://"
        )
    raise TransportError(
        f"{url} answers {code}, and not as argotun does: expected a server's or an agent's /status"
    )


def _how(config: StatusConfig) -> str:
    """What somebody who shows nothing of himself could show."""
    if config.status_client_cert or config.status_token_file:
        return ""
    return "; --status-client-cert, or --status-token-file, says who asks"


def _hint(error: BaseException, config: StatusConfig) -> str:
    """What to try, where that is known."""
    words = _reason(error)
    if "requires a client certificate" in words or "or requires one and got none" in words:
        return _how(config)
    if "does not speak TLS" in words:
        return "; http:// in place of https://"
    if "CA certificates given" in words and not config.status_ca_cert:
        return "; --status-ca-cert names the CA"
    if words not in ("the other side closed the connection", "the connection was reset by the other side"):
        return ""
    if config.status_url.startswith("http://"):
        return "; a port with TLS wants https://"
    # TLS 1.3 refuses behind the handshake, and its reason may come too late to be read.
    how = _how(config)
    return f"; it may want to know who asks{how}" if how else ""


def _reason(error: BaseException) -> str:
    """The innermost error that says why, in plain words."""
    chain = list(_chain(error))
    for kind in (ssl.SSLError, OSError):
        for each in reversed(chain):
            if isinstance(each, kind) and not isinstance(each, requests.RequestException):
                return explain(each)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "the other side closed the connection"
    return printable(str(error))


def _chain(error: object) -> Iterator[BaseException]:
    """An error and what it was made of: urllib3 keeps it in `reason` or `args`, Python in the others."""
    seen: list[object] = []
    left = [error]
    while left:
        each = left.pop(0)
        if not isinstance(each, BaseException) or any(each is other for other in seen):
            continue
        seen.append(each)
        yield each
        left += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]
