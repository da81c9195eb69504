"""The clusters file: read or refused in one sentence that holds no token, and the same when written again."""

import json
import re

from argotun.config.clusters import parse_clusters
from argotun.config.documents import read_list
from argotun.errors import ClustersError
from tests.fuzz.steps import Steps

TOKEN = "token-nobody-sees"
AS_TOKEN = re.compile(r'"token(s|Sha256)?"\s*:\s*\[?\s*"[^"\\]*"|\btoken: [^\n]*')


def check(data: bytes) -> None:
    """One file; where TOKEN stands in it, no sentence may repeat it."""
    text = data.decode("utf-8", "replace")
    try:
        with Steps(8 * len(data)):
            clusters = parse_clusters(text)
    except ClustersError as error:
        assert TOKEN not in str(error) or said_elsewhere(text), str(error)
        return
    entries = read_list(text, "", "", ClustersError).entries
    assert parse_clusters(json.dumps(entries)) == clusters
    assert TOKEN not in repr(clusters) or said_elsewhere(text)


def said_elsewhere(text: str) -> bool:
    """Whether the token also stands where everything is shown: as an id, a name, an address, a key."""
    return TOKEN in AS_TOKEN.sub("", text)


def seeds() -> list[bytes]:
    """Sound files, and some that are not."""
    digest = "a" * 64
    return [
        b"[]",
        b'[{"id": "c1", "token": "%b"}]' % TOKEN.encode(),
        b'[{"id": "c1", "token": "%b"}, {"id": "c1", "token": "%b2"}]' % (TOKEN.encode(), TOKEN.encode()),
        f'[{{"id": "a.b-c", "tokenSha256": "{digest}", "certNames": ["a"], "rateLimit": 1.5}}]'.encode(),
        f'[{{"id": "c1", "tokens": ["{TOKEN}"], "targetAddr": "api:6443", "argocdX": 1}}]'.encode(),
        f'[{{"id": "c1", "token": "{TOKEN}", "certnames": [], "rateLimit": NaN}}]'.encode(),
        f'[{{"id": "c1", "token": "{TOKEN}", "rateLimit": -1}}]'.encode(),
        f'[{{"id": "c1", "token": "{TOKEN} with space"}}]'.encode(),
        f'[{{"id": "c 1", "token": "{TOKEN}"}}'.encode(),
        b'[{"id": 1, "id": 2}]',
        b"[" * 500,
        f'- id: c1\n  token: {TOKEN}\n  labels: {{a: "no"}}\n'.encode(),
        f"- id: no\n  token: {TOKEN}\n".encode(),
        f"- id: &a c1\n  token: *{TOKEN}\n".encode(),
        b"- " * 500,
    ]
