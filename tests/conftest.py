"""Shared by all tests: gevent's patching first, as in the program itself, and hypothesis's profiles."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    from tests import workers

    workers.keep_real()

from gevent import monkey

monkey.patch_all()

from hypothesis import settings

# No deadline: that a machine is slow is no fault of the code.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile("full")
