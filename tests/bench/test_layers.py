"""Where a process spends its time: what is read out of the reports of perf and of py-spy."""

import pytest

from bench.layers import by_layer, by_room

REPORT = """\
# Samples: 3K of event 'cpu-clock:pppH'
#
    52.80%  libpython3.11.so.1.0
    20.00%  python3.13
    13.16%  [kernel.kallsyms]
     7.27%  libc.so.6
     2.04%  [vdso]
     1.68%  libcrypto.so.3
     1.35%  _greenlet.cpython-311-x86_64-linux-gnu.so
     0.72%  corecext.cpython-311-x86_64-linux-gnu.so
     0.43%  libssl.so.3
     0.36%  _struct.cpython-311-x86_64-linux-gnu.so
     0.13%  _ssl.cpython-311-x86_64-linux-gnu.so
     0.06%  something.so
"""

STACKS = """\
Hub.run (gevent/hub.py:647) 40
Listener._serve (argotun/transport/listen.py:177);Reader.recv (argotun/transport/reader.py:70) 10
Listener._serve (argotun/transport/listen.py:177);parse_request (argotun/wire/head.py:236) 20
serve (argotun/server/clients.py:164);parse (argotun/wire/head.py:236);dumps (json/__init__.py:231) 20
main (argotun/cli.py:12) 10
"""


def test_each_file_counts_for_one_layer() -> None:
    shares = by_layer(REPORT)
    assert shares == {
        "Python": pytest.approx(0.7316),
        "kernel": pytest.approx(0.1520),
        "memory and copies": pytest.approx(0.0727),
        "TLS": pytest.approx(0.0224),
        "event loop and greenlets": pytest.approx(0.0207),
        "other": pytest.approx(0.0006),
    }
    assert next(iter(shares)) == "Python"


def test_a_room_has_what_it_calls() -> None:
    assert by_room(STACKS) == {"other": 0.4, "wire": 0.4, "transport": 0.1, "argotun": 0.1}


def test_nothing_that_was_sampled_is_no_share() -> None:
    assert by_layer("") == {} == by_room("")
