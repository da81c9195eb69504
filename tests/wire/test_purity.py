"""Imports point down only, and the wire layer knows no socket, no clock, no thread and no chance."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "argotun"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What the wire layer may use of the standard library: none of it waits, looks around or varies between runs.
ALLOWED_IN_WIRE = {
    *(
        "abc",
        "array",
        "base64",
        "binascii",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "hmac",
    ),
    *("ipaddress", "itertools", "json", "math", "operator", "re", "string", "struct", "typing", "types"),
}
# The C masking function of this library is called from the wire layer; it does no I/O.
ALLOWED_LIBRARIES_IN_WIRE = {"websockets.frames", "websockets.version"}

# These bring sockets, threads, clocks or chance; the wire layer may not load them by a detour either.
BARRED = {
    *("socket", "_socket", "ssl", "_ssl", "select", "selectors", "asyncio", "gevent", "threading", "_thread"),
    *("time", "datetime", "random", "secrets", "uuid", "logging", "os", "subprocess", "signal", "tempfile"),
}

# Single files that know nothing of argotun.
GROUND = {"errors", "address", "descriptors", "expiry", "files", "process", "seldom", "streams", "turns"}

# Each layer with what it may import; the package itself, `""`, holds a version and nothing else.
LAYERS: dict[str, set[str]] = {
    "": set(),
    **{name: set() for name in GROUND},
    "wire": {"errors"},
    "observe": {"address", "expiry", "turns", "errors"},
    "config": {"errors", "address"},
    "policy": {"config", "errors"},
    "transport": {"wire", "config", "files", "address", "expiry", "seldom", "turns", "errors"},
    "tunnel": {"transport", "wire", "config", "turns", "errors"},
    "replicas": {"transport", "config", "files", "seldom", "turns", "errors"},
    "server": {"replicas", "tunnel", "transport", "wire", "observe", "config", *GROUND},
    "agent": {"tunnel", "transport", "wire", "observe", "policy", "config", *GROUND},
    "options": {"config", "address", "files", "errors"},
    "check": {
        *("server", "agent", "replicas", "tunnel", "transport", "wire", "observe", "policy", "config"),
        *GROUND,
    },
}
# These may import anything: the entry, the command line, the demo, and what makes certificates.
TOP = {"cli", "demo", "entry", "pki", "status", "__main__"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """`argotun.wire.head` → `wire`; the package itself → ``."""
    return module.partition(".")[2].partition(".")[0]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, wherever the statement stands, with its line."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                # `from argotun import wire` imports the module argotun.wire.
                named = f"{source}.{alias.name}"
                where = ROOT / named.replace(".", "/")
                yield (named if where.is_dir() or where.with_suffix(".py").exists() else source), node.lineno


def refusal(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported`, or None when it may."""
    if imported != "argotun" and not imported.startswith("argotun."):
        return None
    here, there = layer(importer), layer(imported)
    if here in TOP or here == there:
        return None
    return None if there in LAYERS.get(here, set()) | {""} else f"{here or 'argotun'} may not import {there}"


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_down_only(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {why}"
        for imported, line in imports(path)
        if (why := refusal(module_name(path), imported))
    ]
    assert not wrong


@pytest.mark.parametrize(
    "package", sorted({module_name(path).split(".")[1] for path in SOURCES if path.parent != PACKAGE})
)
def test_every_package_has_its_place_in_the_table(package: str) -> None:
    assert package in TOP or package in LAYERS


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("argotun.wire.head", "argotun.transport.tls"),
        ("argotun.transport.tls", "argotun.tunnel"),
        ("argotun.observe.logs", "argotun.wire.head"),
        ("argotun.errors", "argotun.wire"),
        ("argotun.server.app", "argotun.agent.app"),
        ("argotun.agent.app", "argotun.server.app"),
        ("argotun.server.app", "argotun.options.load"),
        ("argotun.config.models", "argotun.transport.proxy"),
        ("argotun.server.app", "argotun.cli"),
        ("argotun.server.app", "argotun.demo"),
        ("argotun.server.app", "argotun.policy.rules"),
        ("argotun.policy.rules", "argotun.wire.head"),
    ],
)
def test_table_refuses_an_import_that_points_up(importer: str, imported: str) -> None:
    assert refusal(importer, imported)


# What is pure beside the wire layer, with all that it may import.
PURE = {
    "replicas/directory.py": {"collections.abc", "dataclasses", "argotun.replicas.records"},
    "replicas/records.py": {
        "collections.abc",
        "dataclasses",
        "json",
        "re",
        "typing",
        "argotun.config.values",
    },
}


@pytest.mark.parametrize("name", PURE)
def test_the_directory_of_replicas_knows_no_redis_socket_or_clock(name: str) -> None:
    assert {imported for imported, _ in imports(PACKAGE / name)} <= PURE[name]


def test_only_one_file_knows_redis() -> None:
    knowing = [path.name for path in SOURCES if any(n.split(".")[0] == "redis" for n, _ in imports(path))]
    assert knowing == ["engine.py"]


def test_no_module_leads_back_to_itself() -> None:
    leads = {
        module_name(path): {name for name, _ in imports(path) if name.startswith("argotun.")}
        for path in SOURCES
    }
    # A package's name stands for what its __init__ imports.
    reached = {name: set(targets) for name, targets in leads.items()}
    for _ in leads:
        for targets in reached.values():
            targets |= {further for name in set(targets) for further in leads.get(name, ())}
    assert not [name for name, targets in reached.items() if name in targets]


WIRE = sorted((PACKAGE / "wire").glob("*.py"))
# Rules over requests know as little; a policy's text is YAML.
POLICY = sorted((PACKAGE / "policy").glob("*.py"))
ALLOWED_IN_POLICY = {*ALLOWED_IN_WIRE, "urllib.parse", "yaml"}


@pytest.mark.parametrize("path", POLICY, ids=module_name)
def test_policy_names_nothing_but_pure_modules(path: Path) -> None:
    named = {name for name, _ in imports(path) if not name.startswith("argotun.")}
    assert {name for name in named if name.split(".")[0] not in ALLOWED_IN_POLICY} <= ALLOWED_IN_POLICY


@pytest.mark.parametrize("path", WIRE, ids=module_name)
def test_wire_names_nothing_but_pure_modules(path: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {imported}"
        for imported, line in imports(path)
        if not imported.startswith("argotun.")
        and imported.split(".")[0] not in ALLOWED_IN_WIRE
        and imported not in ALLOWED_LIBRARIES_IN_WIRE
    ]
    assert not wrong


@pytest.mark.parametrize("path", WIRE, ids=module_name)
def test_wire_opens_and_evaluates_nothing(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "input", "print", "exec", "eval", "compile", "__import__", "breakpoint"}


# Runs where nothing of pytest is loaded. What the interpreter and the pure standard library bring in by
# themselves does not count, nor what the masking library does; the question is what our modules bring in.
PROBE = """
import json, sys, importlib
for name in sys.argv[2:]:
    importlib.import_module(name)
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize("path", WIRE, ids=module_name)
def test_wire_loads_nothing_impure(path: Path) -> None:
    given = sorted(ALLOWED_IN_WIRE | (ALLOWED_LIBRARIES_IN_WIRE if path.name in MASKING else set()))
    done = subprocess.run(
        [sys.executable, "-S" if path.name not in MASKING else "-B", "-c", PROBE, module_name(path), *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(json.loads(done.stdout))
    assert not {name for name in loaded if name.split(".")[0] in BARRED}
    assert {name.split(".")[0] for name in loaded} <= {"argotun"}


MASKING = {path.name for path in WIRE if "websockets.frames" in path.read_text()}
