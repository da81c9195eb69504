"""The table of what is fuzzed; each target is a module with `check(data)` and `seeds()`."""

from types import ModuleType

from tests.fuzz import answers, chunks, clusters, frames, heads, hellos, policies, proxies, websockets

TARGETS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (answers, chunks, clusters, frames, heads, hellos, policies, proxies, websockets)
}
