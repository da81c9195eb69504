"""`--mode demo`: a stand-in Kubernetes API, and a guided run of a deployment through the tunnel."""

from argotun.config import DemoConfig


def run(config: DemoConfig) -> int:
    """Run the demo to its end; the exit code."""
    # Imported here: the stand-in API is of use without server and agent.
    from argotun.demo.guide import run as guided_run  # noqa: PLC0415

    return guided_run(config)
