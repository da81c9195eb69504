"""Sockets: TLS contexts, dialling, listening, and the two WebSocket libraries with their edges off."""
