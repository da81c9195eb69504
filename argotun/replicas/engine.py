"""Redis itself: which one to talk to, a client for it, and the scripts; the only file that imports redis.

A client is given up after its first error, and the next one asks anew who the master is. So redis-py's own
retries and health checks are left out.

What it does not promise is that a connection gets its socket by `_connect` and reads from it by `recv` alone,
which is how an answer is bounded here, and TLS made as everywhere else. It is tried out once, at import, as
transport/_private.py does for the libraries that every process has.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from typing import Any

from redis import Connection, ConnectionPool, Redis, UnixDomainSocketConnection
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from argotun.config.models import Address, ServerConfig
from argotun.errors import ConfigError, DialError, LibraryError, TransportError
from argotun.files import read
from argotun.replicas.records import LARGEST
from argotun.transport.tls import ClientTls, handshake_client

TIMEOUT = 2.0
"""Seconds for a connection, and for each answer; a Redis that stood still answers at once when it goes on."""
FAILURES = (RedisError, OSError, TransportError)
"""What a client's commands raise when the registry cannot be had, beside ConfigError."""
LARGEST_PASSWORD = 64 << 10
LARGEST_ANSWER = 2 * LARGEST
"""Bytes of one answer or message: none that a replica wrote or asks for is larger than LARGEST."""

_NEEDED = "connections that get their socket by _connect, and read from it by recv alone"

BEAT = """
local routes, members, feed = KEYS[1], KEYS[2], KEYS[3]
local id, entry, before, fields, whole, deadline, alive, kept, message = unpack(ARGV, 1, 9)
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
-- tostring() would round the microseconds away.
local function number(n) return string.format('%.0f', n) end
-- The connection waited in a Redis that stood still, and whoever sent this has given it up since.
if tonumber(deadline) > 0 and now > tonumber(deadline) then return {number(now), 'late'} end
local held = redis.pcall('HLEN', routes)
if type(held) == 'table' then redis.call('DEL', routes) held = 0 end
if whole == '1' then redis.call('DEL', routes)
elseif held == 0 then return {number(now), 'gone'}
elseif held ~= tonumber(fields) or redis.call('HGET', routes, '') ~= before then
  return {number(now), 'lost'}
end
for i = 10, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', routes, ARGV[i])
  else redis.call('HSET', routes, ARGV[i], ARGV[i + 1]) end
end
redis.call('HSET', routes, '', entry)
redis.call('PEXPIRE', routes, kept)
local swept = redis.pcall('ZREMRANGEBYSCORE', members, '-inf', number(now - 60000000))
if type(swept) == 'table' then redis.call('DEL', members) end
redis.call('ZADD', members, number(now + alive * 1000), id)
redis.call('PUBLISH', feed, message)
return {number(now), 'written'}
"""
"""One atomic beat. Where there is no hash it says `gone`, and where it is not the one that the sender left
there `lost`; it writes nothing then.

A key of another type is nobody's and makes way: each key has one writer.
"""

LEAVE = """
redis.call('DEL', KEYS[1])
redis.pcall('ZREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', KEYS[3], ARGV[2])
return 'left'
"""

READ = """
local held = redis.pcall('HLEN', KEYS[1])
if type(held) == 'table' or held > tonumber(ARGV[1]) then return false end
local entry = redis.call('HGET', KEYS[1], '')
if entry and string.match(entry, '^%d+') == ARGV[3] then return 'known' end
local all, size = redis.call('HGETALL', KEYS[1]), 0
for i = 1, #all do size = size + #all[i] end
if size > tonumber(ARGV[2]) then return false end
return all
"""
"""One replica's hash, or `known` where it still has a certain sequence number; nothing where it is larger
than ours could be, and would fill all readers' memory."""


class _Passwords(CredentialProvider):
    """User and password for a new connection; a file is read each time."""

    def __init__(self, option: str, user: str, password: str, path: str | None) -> None:
        self._option, self._user, self._password, self._path = option, user, password, path
        self.get_credentials()

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._password
        if self._path is not None:
            try:
                password = read(self._path, LARGEST_PASSWORD).data.decode().strip()
            except (OSError, UnicodeDecodeError):
                raise ConfigError(self._option, self._path, "a file with one password in it") from None
        return (self._user, password) if self._user else (password,)


class _Bounded:
    """A socket that reads `left` bytes more at most: redis-py keeps an answer whole, up to 512 MiB."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self.left = LARGEST_ANSWER

    def recv(self, size: int) -> bytes:
        """Some bytes; OSError once they are too many."""
        data: bytes = self._sock.recv(size)
        self.left -= len(data)
        if self.left < 0:
            raise OSError(f"an answer of more than {LARGEST_ANSWER} bytes")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _BoundedAnswers:
    """What makes each answer of a connection a bounded one, and each message of a subscription."""

    _bounded: _Bounded

    def _connect(self) -> Any:
        self._bounded = _Bounded(super()._connect())  # type: ignore[misc]
        return self._bounded

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """The next answer, as redis-py has it."""
        answer = super().read_response(*arguments, **options)  # type: ignore[misc]
        self._bounded.left = LARGEST_ANSWER
        return answer


class _PlainConnection(_BoundedAnswers, Connection):
    """A connection without TLS."""


class _PathConnection(_BoundedAnswers, UnixDomainSocketConnection):
    """A connection to a path of this machine."""


class _TlsSocket(Connection):
    """A connection whose TLS is made as all of argotun's, by contexts that follow their files."""

    def __init__(self, tls: ClientTls, **options: Any) -> None:
        self._tls = tls
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        raw = super()._connect()  # type: ignore[no-untyped-call]
        shaken = handshake_client(raw, self._tls.context(), self.host, TIMEOUT)
        shaken.settimeout(self.socket_timeout)
        return shaken


class _TlsConnection(_BoundedAnswers, _TlsSocket):
    """A connection with TLS."""


class _Echo:
    """A socket whose other side says OK to everything; it has what a connection may use, and no more."""

    def recv(self, _size: int) -> bytes:
        return b"+OK\r\n"

    def sendall(self, _data: bytes) -> None:
        pass

    settimeout = shutdown = sendall

    def close(self) -> None:
        pass


class _Trial:
    def _connect(self) -> _Echo:
        return _Echo()


class _PlainTrial(_Trial, Connection):
    pass


class _PathTrial(_Trial, UnixDomainSocketConnection):
    pass


def try_out() -> None:
    """Raise LibraryError where the installed redis-py does not connect and read as it must here."""
    trials: tuple[tuple[Any, type], ...] = (
        (_PlainTrial, Connection),
        (_PathTrial, UnixDomainSocketConnection),
    )
    for trial, overridden in trials:
        try:
            connection = trial(retry=Retry(NoBackoff(), 0), protocol=2)
            connection.connect()
            connection.send_command("PING")
            works = connection.read_response() == b"OK" and "_connect" in vars(overridden)
        except Exception as error:
            raise LibraryError("redis", version("redis"), _NEEDED) from error
        if not works:
            raise LibraryError("redis", version("redis"), _NEEDED)


try_out()


class Engine:
    """The registry that `config` names. Raises ConfigError when a file that it names cannot be used."""

    def __init__(self, config: ServerConfig) -> None:
        assert config.registry is not None
        self._url = url = config.registry
        # The braces make one slot of all keys.
        self.keys = f"{{{config.registry_prefix}}}"
        self._slot = key_slot(self.keys.encode())
        self.tls: ClientTls | None = None
        self._options: dict[str, Any] = {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "connection_class": _PlainConnection,
        }
        if url.tls:
            options = ("--registry-ca-cert", "--registry-client-cert", "--registry-client-key")
            self.tls = ClientTls(
                config.registry_ca_cert,
                config.registry_client_cert,
                config.registry_client_key,
                options=options,
                prefix="registry-",
            )
            self._options |= {"connection_class": _TlsConnection, "tls": self.tls}
        self._sentinel_options = dict(self._options)
        if url.user or url.password or config.registry_password_file:
            self._options["credential_provider"] = _Passwords(
                "--registry-password-file", url.user, url.password, config.registry_password_file
            )
        if (path := config.registry_sentinel_password_file) is not None:
            option = "--registry-sentinel-password-file"
            self._sentinel_options["credential_provider"] = _Passwords(option, "", "", path)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of the registry as it is now, for one greenlet; its connections end with the block.

        Raises RedisError, OSError, TransportError or ConfigError at once or at any command; the client is of
        no more use then.
        """
        if self._url.path:
            place: dict[str, Any] = {"connection_class": _PathConnection, "path": self._url.path}
        else:
            host, port = self._address()
            place = {"host": host, "port": port, "db": self._url.database}
        with _connected(self._options | place) as client:
            yield client

    def _address(self) -> Address:
        """Which one takes what we write: the host, Sentinel's master, or the Cluster's node for our slot."""
        if self._url.kind == "sentinel":
            return self._master()
        if self._url.kind == "cluster":
            return self._node()
        return self._url.hosts[0]

    def _master(self) -> Address:
        with ExitStack() as stack:
            sentinel: Any = Sentinel([])  # type: ignore[no-untyped-call]
            for host, port in self._url.hosts:
                options = self._sentinel_options | {"host": host, "port": port}
                sentinel.sentinels.append(stack.enter_context(_connected(options)))
            address: Address = sentinel.discover_master(self._url.master)
        return address

    def _node(self) -> Address:
        why: Exception | None = None
        for host, port in self._url.hosts:
            try:
                with _connected(self._options | {"host": host, "port": port}) as client:
                    for first, last, master, *_ in client.execute_command("CLUSTER", "SLOTS"):
                        if first <= self._slot <= last:
                            return (master[0] or b"").decode() or host, master[1]
            except FAILURES as error:
                why = error
        raise DialError("no node of the Cluster knows who has our slot") from why


@contextmanager
def _connected(options: dict[str, Any]) -> Iterator[Any]:
    client = Redis(connection_pool=ConnectionPool(max_connections=2, **options))
    try:
        yield client
    finally:
        with suppress(RedisError, OSError):
            client.connection_pool.disconnect()
