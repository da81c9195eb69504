"""Shared by all tests: gevent's patching first, as in the program itself, and hypothesis's profiles."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    from tests import workers

    workers.keep_real()

from gevent import monkey

monkey.patch_all()

# Scripted APIs count who asks; tests of the question itself say how often.
os.environ["ARGOTUN_API_CHECK"] = "0"

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.secrecy import watch

# No deadline: that a machine is slow is no fault of the code.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=10)
settings.load_profile("full")

# All that argotun logs is looked at; tests see what is at least a warning, unless they ask for more.
logging.getLogger().addHandler(watch)
logging.getLogger("argotun").setLevel(logging.DEBUG)


@pytest.fixture(autouse=True, scope="module")
def what_other_files_sent_is_no_secret() -> None:
    """Lets no file's result depend on those that ran before it in this process."""
    watch.begin_file()


@pytest.fixture(autouse=True)
def secrets_stay_out_of_logs() -> Iterator[None]:
    """Fails the test in which a secret of the run was logged."""
    watch.begin()
    yield
    assert watch.leaks() == []
