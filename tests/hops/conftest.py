"""What tests/server asks of every module holds here too."""

from tests.server.conftest import impatient, no_fault, nothing_left, pass_time

__all__ = ["impatient", "no_fault", "nothing_left", "pass_time"]
