"""From when on the end of a certificate is worth a word."""

SOON = 14 * 86400.0
"""Seconds before it: the log, the status and a check speak of it then, and the chart's alert fires."""
