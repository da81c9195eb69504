"""The one error that the benchmark ends with: a sentence for the person who started it."""


class BenchError(Exception):
    """Something that the benchmark needs is missing, did not start or did not answer."""
