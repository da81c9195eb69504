"""argotun: a reverse tunnel from customers' Kubernetes clusters to a managed Argo CD."""

__version__ = "0.1.0"
