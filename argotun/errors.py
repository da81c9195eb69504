"""The one tree of errors that argotun raises on purpose.

    ArgotunError
    ├── ConfigError         a user's mistake in an option, a file or the environment
    │   ├── OptionsError    … or options that do not go together
    │   ├── ClustersError   … or a clusters file that cannot be used
    │   └── PolicyError     … or a policy file that cannot be used
    ├── ProtocolError       a peer broke the tunnel's or WebSocket's rules: its tunnel ends
    ├── HeadError           an HTTP message that two parsers could read differently, or too large
    ├── TransportError      the network let us down
    │   ├── DialError       no connection could be made
    │   │   └── NameLost    … because its name could not be resolved
    │   ├── HandshakeError  a connection was made, but TLS, a proxy or the upgrade refused it
    │   └── ConnectionLost  an established connection ended
    ├── CredentialError     the agent has no usable ServiceAccount token
    └── LibraryError        an installed library is not one that argotun can work with

Each layer maps what its libraries raise to one of these where the layer ends, so that a caller
needs no knowledge of sockets, OpenSSL or WebSocket libraries to handle a failure.
"""


class ArgotunError(Exception):
    """Anything that argotun raises on purpose; `str()` of it is a sentence for a person."""


class ConfigError(ArgotunError):
    """A wrong option: names the option, the value (None where there is none) and what is expected."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        wrong = f"{option} is not set" if value is None else f"{option}: {value!r} is not valid"
        super().__init__(f"{wrong}: expected {expected}")
        self.option = option


class OptionsError(ConfigError):
    """Options that do not go together: `sentence` goes on from the name of the one at fault."""

    def __init__(self, option: str, sentence: str) -> None:
        ArgotunError.__init__(self, f"{option} {sentence}")
        self.option = option


class ClustersError(ConfigError):
    """The clusters file or text cannot be used; the last good one stays in force."""


class PolicyError(ConfigError):
    """The policy file cannot be used; the last good one stays in force."""


class ProtocolError(ArgotunError):
    """A peer broke the rules of the wire.

    `close_code` is the WebSocket close code (RFC 6455 §7.4.1) that tells the peer so.
    """

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code


class HeadError(ArgotunError):
    """An HTTP/1.1 message that is malformed, ambiguous or over a limit.

    `status` is the answer that a client gets for it (400, 413, 431, 501, 505).
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class TransportError(ArgotunError):
    """The network let us down; trying again later may help."""


class DialError(TransportError):
    """No connection could be made: name, address, port or time ran out."""


class NameLost(DialError):
    """The name could not be resolved: nobody has been asked for anything yet."""


class HandshakeError(TransportError):
    """A connection was made, but TLS, a proxy or the WebSocket upgrade refused it.

    `status` is the HTTP status of the refusal where there was one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class ConnectionLost(TransportError):
    """An established connection ended without being closed cleanly."""


class CredentialError(ArgotunError):
    """A token cannot be used: the ServiceAccount's for this request, or the server's for this dial."""


class LibraryError(ArgotunError):
    """An installed library lacks something argotun needs of it that the library never promised to keep."""

    def __init__(self, library: str, version: str, missing: str) -> None:
        super().__init__(
            f"{library} {version} lacks {missing}, which argotun needs: install the one in requirements.txt"
        )
