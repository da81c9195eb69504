"""Tests of neighbours once more, with client and agent at different replicas."""

import importlib.util
from pathlib import Path
from typing import Any

from tests.replicas import ByHop

SERVER = Path(__file__).parents[1] / "server"


def by_hop(name: str, *but: str) -> dict[str, Any]:
    """What `tests/server/NAME.py` defines, with a rig in which every request takes a hop.

    `but` are tests that look at the inside of the one server that they expect.
    """
    spec = importlib.util.spec_from_file_location(f"tests.hops.copy_of_{name}", SERVER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Rig = ByHop  # type: ignore[attr-defined]
    missing = [each for each in but if not hasattr(module, each)]
    assert not missing, f"there is no {missing} in {name}"
    return {key: value for key, value in vars(module).items() if key not in but and not key.startswith("__")}
