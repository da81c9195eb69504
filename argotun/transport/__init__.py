"""Sockets: TLS contexts, dialling, listening, and the two WebSocket libraries with their edges off."""

from argotun.transport.messages import MessageSocket

__all__ = ["MessageSocket"]
