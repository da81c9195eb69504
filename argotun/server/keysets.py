"""Where an entry's public keys come from: the clusters file itself, a file beside it, or an issuer's URL.

All three are looked at once a second, never when an agent dials. A URL is fetched in a greenlet of its own:
every REFETCH, sooner after a failure, and after a token came with a key that is not known, since an issuer
may have a new one; but never more often than every PAUSE, whoever asks for it.
"""

import logging
import os
import ssl
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Protocol

import gevent
from gevent.lock import BoundedSemaphore

from argotun import USER_AGENT
from argotun.config.jwks import LARGEST_SET, Key, parse_jwks
from argotun.config.service_accounts import ServiceAccount
from argotun.config.values import Refused
from argotun.files import Followed, Trouble, readable

log = logging.getLogger("argotun.server")

REFETCH = 600.0
PAUSE = 30.0
"""Seconds between two fetches of one URL: at most, and at least."""

FETCH_TIMEOUT = 10.0
"""Seconds that a fetch may take in all."""

AT_ONCE = BoundedSemaphore(4)
"""Fetches at one time, over all URLs."""

Keys = Mapping[str, Key]


class KeySet(Protocol):
    """The keys of one entry, by kid."""

    @property
    def keys(self) -> Keys:
        """Those that are known now."""

    def look(self) -> bool:
        """Look for others; whether there are."""

    def missed(self) -> None:
        """A token came with a key that is not known."""

    def close(self) -> None:
        """The entry is gone."""


def key_set(account: ServiceAccount, ca: str | None, on_error: Callable[[], None]) -> KeySet:
    """The key set of an entry; `ca` is the path of the CA that URLs are verified against."""
    if account.jwks_url is not None:
        return FetchedKeys(account.jwks_url, ca, on_error)
    if account.jwks_file is not None:
        return FileKeys(account.jwks_file, on_error)
    return FixedKeys(parse_jwks(account.jwks or ""))


class FixedKeys:
    """Keys that stand in the clusters file."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def look(self) -> bool:
        """No others: another clusters file makes another set."""
        return False

    def missed(self) -> None:
        """Nobody can be asked for more."""

    def close(self) -> None:
        """Nothing is held."""


class FileKeys:
    """Keys in a file of their own."""

    def __init__(self, path: str, on_error: Callable[[], None]) -> None:
        self._file = Followed(path, LARGEST_SET, parse_bytes, "the JWK set", log, on_error)
        self._file.refresh()

    @property
    def keys(self) -> Keys:
        """Those of the last version that could be used; none before there was one."""
        return self._file.value or {}

    def look(self) -> bool:
        """Read the file if it has changed."""
        return self._file.refresh()

    def missed(self) -> None:
        """The file is looked at anyway."""

    def close(self) -> None:
        """Nothing is held."""


class FetchedKeys:
    """Keys that an issuer serves; the last ones that it served stay while it cannot be reached."""

    def __init__(self, url: str, ca: str | None, on_error: Callable[[], None]) -> None:
        self.keys: Keys = {}
        self._url = url
        self._ca = ca
        self._trouble = Trouble(log, on_error)
        self._began = float("-inf")
        self._due = 0.0
        self._changed = False
        self._fetching: gevent.Greenlet | None = None

    def look(self) -> bool:
        """Begin to fetch if it is time; whether a fetch has brought other keys."""
        if self._fetching is None and monotonic() >= self._due:
            self._fetching = gevent.spawn(self._fetch)
        changed, self._changed = self._changed, False
        return changed

    def missed(self) -> None:
        """Fetch soon: the issuer may have a new key."""
        self._due = min(self._due, self._began + PAUSE)

    def close(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.kill(block=False)

    def _fetch(self) -> None:
        try:
            with AT_ONCE:
                self._began = monotonic()
                keys = parse_bytes(fetch(self._url, self._ca))
        except ValueError as error:
            meanwhile = "the keys fetched before stay in use" if self.keys else "its agents are refused"
            self._trouble.begin(f"the JWK set {self._url} cannot be fetched: {error}", meanwhile)
            self._due = self._began + PAUSE
        else:
            self._trouble.end(f"the JWK set {self._url}")
            self._changed = self._changed or keys != self.keys
            self.keys = keys
            self._due = self._began + REFETCH
        finally:
            self._fetching = None


def parse_bytes(data: bytes) -> Keys:
    """As `parse_jwks`, with the reason in a ValueError's words."""
    try:
        return parse_jwks(data)
    except Refused as refused:
        raise ValueError(f"expected {refused}") from None


def fetch(url: str, ca: str | None) -> bytes:
    """What is served at an https URL, LARGEST_SET bytes and a little at most; ValueError says why not.

    Redirects are not followed, and neither netrc nor the environment's proxies count.
    """
    # Few servers have such an entry, and requests takes a while to import.
    import requests  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    timeout = gevent.Timeout(FETCH_TIMEOUT)
    try:
        with timeout, requests.Session() as session, readable(ca or "") as trusted:
            session.trust_env = False
            # As they are on the wire: a compressed set could be of any size.
            headers = {
                "Accept": "application/jwk-set+json, application/json",
                "Accept-Encoding": "identity",
                "User-Agent": USER_AGENT,
            }
            answer = session.get(
                url,
                headers=headers,
                timeout=FETCH_TIMEOUT,
                verify=trusted or system_ca(),
                allow_redirects=False,
                stream=True,
            )
            if answer.status_code != 200:
                raise ValueError(f"the answer was {answer.status_code}")
            return bytes(answer.raw.read(LARGEST_SET + 1, decode_content=False))
    except gevent.Timeout as fired:
        if fired is not timeout:
            raise
        raise ValueError(f"it took longer than {FETCH_TIMEOUT:g} s") from None
    except (requests.RequestException, HTTPError, OSError) as error:
        raise ValueError(str(error) or type(error).__name__) from None


def system_ca() -> str | bool:
    """The system's CAs as requests takes them; its own bundle where the system has none."""
    paths = ssl.get_default_verify_paths()
    return next((path for path in (paths.cafile, paths.capath) if path and os.path.exists(path)), True)
