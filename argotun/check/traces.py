"""Whether traces would arrive, where the environment asks for them: a message without a span is sent."""

from collections.abc import Mapping

from argotun.check.steps import Walk
from argotun.observe import tracing

STEP = "traces"


def walk(environ: Mapping[str, str], found: Walk) -> None:
    """Nothing where nothing is to be traced, and never a failure: requests go on without their traces.

    The exporter reads the process's own environment, of which `environ` is what names the collector.
    """
    variable, why = tracing.collector(environ)
    if not variable:
        return
    if not why:
        try:
            # Only here: without a collector nobody needs any of it.
            from argotun.observe import otlp  # noqa: PLC0415  see above

            where = otlp.origin(environ[variable])
            if problem := otlp.knock():
                why = f"the collector at {where} does not take them: {problem}"
        except ModuleNotFoundError as error:
            why = tracing.missing(variable, error)
        except (OSError, ValueError) as error:
            why = f"{variable} is set, but its exporter does not start: {error}"
    if why:
        found.warn(STEP, f"no traces are exported: {why}")
    else:
        found.ok(STEP, f"the collector at {where} takes them")
