"""What the scenarios stand on: an API, and what is between an agent and the server."""

from collections.abc import Callable
from functools import cache

from bench import certificates, upstream
from bench.scenarios.scene import STANDARD
from bench.site import Site
from bench.subject import Ground


def grounds(site: Site, files: int) -> dict[str, Callable[[], Ground]]:
    """Each ground by its name, made when first asked for; `files` = connections that an API may hold."""
    made = certificates.make(site.folder)

    @cache
    def standard() -> Ground:
        return Ground(site, upstream.start(site, made, files), made)

    return {STANDARD: standard}
