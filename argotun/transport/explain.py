"""Plain words for the errors of sockets and OpenSSL; every message that leaves this layer is made of them."""

import errno
import socket
import ssl

_BY_ERRNO = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection was reset by the other side",
    errno.EPIPE: "the other side has closed the connection",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ETIMEDOUT: "no answer in time",
    errno.EBADF: "the connection was closed on this side",
    errno.EMFILE: "too many open files in this process",
    errno.ENFILE: "too many open files on this machine",
    errno.EADDRINUSE: "the address is already in use",
    errno.EADDRNOTAVAIL: "no such address on this machine, or no free local port",
    errno.EACCES: "permission denied",
}

_NOT_TLS = "the other side does not speak TLS on this port"
_NO_COMMON = "no TLS version or cipher that both sides accept"
_CLOSED = "the other side closed the connection"

# OpenSSL's reasons, by its own names (ERR_reason_error_string in capitals): first the alerts, in which the
# other side says why it refused us, then our reasons to refuse it.
_BY_REASON = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side requires a client certificate and got none",
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not know the CA of our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side refused our certificate, or requires one and got none",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the other side says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the other side says that our certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side did not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the other side says that our certificate is not for this use",
    "TLSV1_ALERT_ACCESS_DENIED": "the other side denied access to our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "the other side could not verify our signature",
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NO_COMMON + ", or the other side requires a client certificate",
    "TLSV1_UNRECOGNIZED_NAME": "the other side serves no such server name",
    "TLSV1_ALERT_UNRECOGNIZED_NAME": "the other side serves no such server name",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the other side does not offer HTTP/1.1 here (ALPN)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side presented no client certificate",
    "HTTP_REQUEST": "plain HTTP was spoken to a TLS port",
    "HTTPS_PROXY_REQUEST": "a plain proxy request was spoken to a TLS port",
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "UNSUPPORTED_PROTOCOL": _NO_COMMON,
    "VERSION_TOO_LOW": _NO_COMMON,
    "NO_SHARED_CIPHER": _NO_COMMON,
    "NO_PROTOCOLS_AVAILABLE": _NO_COMMON,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
}

# X509_V_ERR_… of OpenSSL, where its own words do not say what to do.
_BY_VERDICT = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed and not among the CA certificates given",
    19: "comes from a CA that is not among the CA certificates given",
    20: "comes from a CA that is not among the CA certificates given",
    21: "comes from a CA that is not among the CA certificates given",
    26: "is not for this use (extended key usage)",
}


def explain(error: BaseException) -> str:
    """An OSError, SSLError or resolver error in plain words.

    Never holds the address of an object, a file name of OpenSSL, or anything that was sent or received.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        verdict = _BY_VERDICT.get(error.verify_code)
        if verdict is not None:
            return f"the other side's certificate {verdict}"
        return f"the other side's certificate is not accepted: {error.verify_message}".rstrip(".")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _CLOSED
    if isinstance(error, ssl.SSLError):
        reason = str(error.reason or "unknown reason")
        return _BY_REASON.get(reason) or "TLS failed: " + reason.lower().replace("_", " ")
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved: " + (error.strerror or "unknown reason").lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        known = _BY_ERRNO.get(error.errno or 0)
        return known or (error.strerror or "the connection failed").lower()
    return "the connection was closed on this side"
