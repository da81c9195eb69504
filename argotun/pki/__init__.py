"""`--mode pki`: a CA, certificates, tokens and the chart's values for both sides, in one folder."""

from argotun.config import PkiConfig
from argotun.process import interruptible


def run(config: PkiConfig) -> int:
    """Make what the folder lacks and say what to do with it; 0. Raises ArgotunError."""
    # Imported here: the demo uses the authority alone.
    from argotun.pki.folder import Folder  # noqa: PLC0415
    from argotun.pki.guide import introduction  # noqa: PLC0415

    with interruptible():
        folder = Folder(config)
        folder.fill()
    print(introduction(folder, config), end="")
    return 0
