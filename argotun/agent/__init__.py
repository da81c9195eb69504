"""The role in the customer's cluster: dials out and serves streams from its own API."""
