"""Files that commands write."""

from __future__ import annotations

from pathlib import Path

from appliance.errors import InvalidInput


def save(path: Path, content: bytes) -> None:
    """Raises InvalidInput("file_not_writable")."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InvalidInput("file_not_writable", path=str(path), problem=error.strerror or str(error)) from error
