"""A folder like a mounted Secret or ConfigMap: files are links through `..data`, which is swapped at once."""

import os
import shutil
from pathlib import Path


class Volume:
    """What the kubelet keeps: each `publish` is a new folder, taken in use by one rename."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._generation = 0

    def path(self, name: str) -> str:
        """Where a process looks for a file, whether it is there or not."""
        return str(self._folder / name)

    def publish(self, **files: bytes) -> None:
        """Let the volume hold these files and no others; `_` in a name stands for a dot."""
        self._generation += 1
        fresh = self._folder / f"..{self._generation}"
        fresh.mkdir()
        names = {name.replace("_", "."): data for name, data in files.items()}
        for name, data in names.items():
            (fresh / name).write_bytes(data)
        (self._folder / "..data_tmp").symlink_to(fresh.name)
        os.replace(self._folder / "..data_tmp", self._folder / "..data")
        for name in names:
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        shutil.rmtree(self._folder / f"..{self._generation - 1}", ignore_errors=True)
