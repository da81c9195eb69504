"""Pure protocol code: bytes in, bytes and calls out; no socket, no gevent, no clock."""
