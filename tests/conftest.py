"""Shared by all tests: gevent's patching first, as in the program itself."""

from gevent import monkey

monkey.patch_all()
