"""What the scenarios stand on: an API, and what is between an agent and the server."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from bench import certificates, upstream
from bench.link import Link
from bench.scenarios.bulk import LINKS
from bench.scenarios.scene import STANDARD
from bench.site import Site
from bench.subject import Ground
from bench.upstream import Upstream
from bench.words import Told

LIVE = "live"
"""The API is `bench.watch_api`, which has watches and upgrades."""

SPARING = "sparing"
"""nginx keeps little in the kernel for each answer; see `bench.fairness` on that."""

SEND_BUFFER = "128k"


@dataclass(frozen=True)
class LiveApi(Upstream):
    """The API of LIVE, which can be `told` what to do."""

    told: Told


def grounds(site: Site, files: int) -> dict[str, Callable[[], Ground]]:
    """Each ground by its name, made when first asked for; `files` = connections that an API may hold.

    Those with a link are the standard one with that link in front of the server.
    """
    made = certificates.make(site.folder)

    @cache
    def standard() -> Ground:
        return Ground(site, upstream.start(site, made, files), made)

    @cache
    def sparing() -> Ground:
        return Ground(site, upstream.start(site, made, files, SEND_BUFFER), made)

    @cache
    def live() -> Ground:
        api = Told(site, "live-api", "bench.watch_api", [str(made.server), str(made.server_key)])
        api.connect()
        tls, plain = (f"127.0.0.1:{api.say(word)}" for word in ("port", "plain"))
        return Ground(site, LiveApi(tls, plain, api.child, uploaded=site.folder, told=api), made)

    def over(link: Link) -> Callable[[], Ground]:
        return lambda: replace(standard(), via=lambda address: link.between(site, address))

    links = {name: over(link) for name, link in LINKS.items()}
    return {STANDARD: standard, SPARING: sparing, LIVE: live, **links}
