"""What an operator sees: metrics, logs, probes."""
