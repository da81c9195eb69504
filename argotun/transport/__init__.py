"""Sockets: TLS, dialling, listening, and the two WebSocket libraries."""
