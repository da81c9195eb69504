"""`--mode status`: what a server or an agent says of itself, as tables in a terminal."""

from argotun.config import StatusConfig
from argotun.process import interruptible
from argotun.streams import coloured

TROUBLE = 1


def run(config: StatusConfig) -> int:
    """Ask and print; 0 where all is well, else 1. Raises ArgotunError where it cannot be asked."""
    import shutil  # noqa: PLC0415  with what follows it is for this mode alone
    import sys  # noqa: PLC0415

    from argotun.observe.words import troubles  # noqa: PLC0415
    from argotun.status.ask import ask  # noqa: PLC0415
    from argotun.status.table import MARKS, lines  # noqa: PLC0415

    with interruptible():
        said = ask(config)
    width = shutil.get_terminal_size().columns
    marks = MARKS if coloured(sys.stdout) else {}
    sys.stdout.write("".join(f"{line}\n" for line in lines(said, width, marks)))
    return TROUBLE if troubles(said) else 0
