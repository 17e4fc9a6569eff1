"""What several rooms need to know of, and to ask from, the file system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_mb(folder: Path) -> int:
    """Megabytes left where `folder` is, or will be; 0 where that cannot be told. For messages: it never raises."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        return shutil.disk_usage(existing).free // 1_000_000
    except (OSError, StopIteration):
        return 0
