"""Descriptors: what is found is raised, and divided so that no port takes another's."""

import json
import resource
import subprocess
import sys

import pytest

from argotun.descriptors import KEPT_BACK, divide


@pytest.mark.parametrize(
    ("limit", "public", "internal", "expected"),
    [
        (1 << 20, 8192, 16384, (8192, 16384)),
        (4096, 8192, 16384, (992, 2976)),
        (1024, 8192, 16384, (224, 672)),
        (4096, 100, 16384, (100, 3868)),
        (4096, 8192, 100, (3868, 100)),
        (64, 8192, 16384, (4, 12)),
    ],
)
def test_each_port_has_its_part(limit: int, public: int, internal: int, expected: tuple[int, int]) -> None:
    assert divide(limit, public, internal) == expected
    assert sum(expected) <= max(limit - KEPT_BACK, 16)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "import json, resource; from argotun.descriptors import raise_limit;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200)); limit = raise_limit();"
        "print(json.dumps([*limit, *resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == [100, 200, 200, 200, 200]
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 100
