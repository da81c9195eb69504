"""argotun: a reverse tunnel from customers' Kubernetes clusters to a managed Argo CD."""

__version__ = "0.1.0"

USER_AGENT = f"argotun/{__version__}"
"""Who asks, in requests of argotun's own (RFC 9110 §10.1.5): gateways and proxies refuse those without."""
