"""Music at one loudness: each file is measured once, and played by the factor that brings it to the target."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
from pathlib import Path

from appliance.database import Database, insert_row
from appliance.environment import child_environment

log = logging.getLogger(__name__)

MOST_UP_DB, MOST_DOWN_DB = 9.0, -24.0
CEILING_DB = -1.0  # no file is raised until its greatest sample is above this
PATIENCE_S = 60.0


class MusicLevels:
    """What files were measured at, kept by path, size and time of change."""

    def __init__(self, db: Database, target_lufs: float | None) -> None:
        self._db = db
        self._target_lufs = target_lufs
        self._one_at_a_time = asyncio.Lock()

    async def gain(self, path: Path) -> float:
        """The factor for a file; 1.0 where levels are left as they are, or it cannot be measured."""
        if self._target_lufs is None:
            return 1.0
        async with self._one_at_a_time:
            measured = await self._measured(path)
        if measured is None:
            return 1.0
        lufs, peak_db = measured
        up_db = min(self._target_lufs - lufs, MOST_UP_DB, max(0.0, CEILING_DB - peak_db))
        return float(10.0 ** (max(up_db, MOST_DOWN_DB) / 20.0))

    async def _measured(self, path: Path) -> tuple[float, float] | None:
        try:
            about = await asyncio.to_thread(path.stat)
        except OSError:
            return None
        key = (str(path), about.st_size, about.st_mtime_ns)
        query = "SELECT lufs, peak_db FROM music_levels WHERE path = ? AND size = ? AND modified_ns = ?"
        row = await self._db.read(lambda db: db.execute(query, key).fetchone())
        if row is not None:
            return float(row[0]), float(row[1])
        measured = await _measure(path)
        if measured is not None:
            values = dict(zip(("path", "size", "modified_ns", "lufs", "peak_db"), (*key, *measured), strict=True))
            await self._db.write(lambda db: _keep(db, values))
        return measured


def _keep(db: sqlite3.Connection, values: dict[str, object]) -> None:
    db.execute("DELETE FROM music_levels WHERE path = ?", (values["path"],))
    insert_row(db, "music_levels", values)


async def _measure(path: Path) -> tuple[float, float] | None:
    """In a child; None: it cannot be read, or takes too long."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "appliance.audio.levelling", str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(1),
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            answer, _ = await process.communicate()
        found = json.loads(answer)
        return float(found["lufs"]), float(found["peak_db"])
    except (TimeoutError, ValueError, KeyError):
        log.info("music: the loudness of %s is not known", path.name)
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
