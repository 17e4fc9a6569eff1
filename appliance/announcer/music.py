"""Background music: a playlist per zone, under what is said there, for as long as nobody stops it.

A playlist is a folder of sound files. What plays is on disk, so that it goes on after a restart of the box, of a
player, or of a device. The player itself makes music quiet under speech; here is decided only what plays.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliance.announcer.loudspeaker import Outlet
from appliance.announcer.music_levels import MusicLevels
from appliance.announcer.player_link import Music, Played
from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.voices.records import clean_name

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff"})
FADE_S = 1.5
LOOK_S = 1.0  # at a device that is not there, or at hours that are quiet
REST_S = 10.0  # after a playlist of which nothing could be played


@dataclass(frozen=True)
class Programme:
    """What a zone is to play."""

    zone: str
    tenant: str
    playlist: str
    volume: float  # 0..1, times the zone's own
    is_shuffled: bool
    started_at: str  # ISO 8601, UTC


class MusicShelf:
    """The playlists that are there: folders in the music folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def playlists(self) -> dict[str, int]:
        """Name -> number of files. Blocks."""
        with suppress(OSError):
            folders = sorted(entry for entry in self.folder.iterdir() if entry.is_dir())
            return {folder.name: len(self.files(folder.name)) for folder in folders}
        return {}

    def files(self, playlist: str) -> list[Path]:
        """Its sound files, by name. Blocks. Raises NotFound("playlist_not_found") with the playlists there are."""
        folder = self.folder / playlist
        if playlist in ("", ".", "..") or Path(playlist).name != playlist or not folder.is_dir():
            known = ", ".join(self.playlists()) if playlist else "–"
            raise NotFound("playlist_not_found", playlist=clean_name(playlist)[:80], known=known or "–")
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


class ZoneMusic:
    """Plays the programme of one zone, file after file."""

    def __init__(self, outlet: Outlet, shelf: MusicShelf, levels: MusicLevels, may_sound: Callable[[], bool]) -> None:
        self._outlet = outlet
        self._levels = levels
        self._shelf = shelf
        self._may_sound = may_sound
        self._task: asyncio.Task[None] | None = None
        self._sound_id = ""
        self._count = 0
        self.programme: Programme | None = None
        self.file = ""
        self.state = "stopped"  # "playing", "waiting" (no device, quiet hours), "empty" (nothing that can be played)

    async def play(self, programme: Programme) -> None:
        """Play this from now on, instead of what played before."""
        await self.stop()
        self.programme = programme
        self._task = asyncio.create_task(self._play(programme), name=f"music {programme.zone}")

    async def stop(self) -> None:
        """Fade out."""
        task, self._task, self.programme = self._task, None, None
        if self._sound_id:
            await self._outlet.stop(self._sound_id, fade_s=FADE_S)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        self.state, self.file = "stopped", ""

    def as_json(self) -> JsonDict | None:
        """What plays, for doors; None: nothing."""
        if self.programme is None:
            return None
        position_s = self._outlet.position_s(self._sound_id)
        told = {"playlist": self.programme.playlist, "volume": self.programme.volume, "state": self.state}
        return {**told, "is_shuffled": self.programme.is_shuffled, "file": self.file, "position_s": position_s}

    async def _play(self, programme: Programme) -> None:
        while True:
            files = await self._files(programme)
            played = [await self._play_file(programme, path) for path in files]
            if not any(played):
                self.state = "empty"
                await asyncio.sleep(REST_S)

    async def _files(self, programme: Programme) -> list[Path]:
        try:
            files = await asyncio.to_thread(self._shelf.files, programme.playlist)
        except NotFound as error:
            log.warning("music in %s: %s", programme.zone, error)
            return []
        if programme.is_shuffled:
            random.shuffle(files)
        return files

    async def _play_file(self, programme: Programme, path: Path) -> bool:
        """From its start to its end, whatever interrupts it; False when nothing of it can be played."""
        position_s, gain = 0.0, programme.volume * await self._levels.gain(path)
        while True:
            await self._until_it_may_sound()
            self.state, self.file = "playing", path.name
            played = await self._sound(Music(path, gain, position_s))
            if played.outcome == "played" or played.code == "player_refused":
                is_readable = played.position_s > 0.0
                if not is_readable:
                    log.warning("music in %s: %s cannot be played", programme.zone, path.name)
                return is_readable
            position_s = played.position_s

    async def _sound(self, music: Music) -> Played:
        """Play it until its end or until the zone must be quiet."""
        self._count += 1
        self._sound_id = f"music {self._count}"
        sounding = asyncio.create_task(self._outlet.play(self._sound_id, music))
        try:
            while not sounding.done():
                await asyncio.wait({sounding}, timeout=LOOK_S)
                if not self._may_sound():
                    await self._outlet.stop(self._sound_id, fade_s=FADE_S)
            return sounding.result()
        finally:
            sounding.cancel()

    async def _until_it_may_sound(self) -> None:
        while not self._outlet.is_open or not self._may_sound():
            self.state = "waiting"
            await asyncio.sleep(LOOK_S)


class MusicDesk:
    """The music of all zones."""

    def __init__(self, db: Database, shelf: MusicShelf, zones: dict[str, ZoneMusic]) -> None:
        self._db = db
        self.shelf = shelf
        self.zones = zones

    async def start(self) -> None:
        """Go on with what played when the box was switched off."""
        rows = await self._db.read(lambda db: db.execute("SELECT * FROM music").fetchall())
        for programme in map(_programme, rows):
            if programme.zone in self.zones:
                await self.zones[programme.zone].play(programme)

    async def close(self) -> None:
        """Silence, until the next start."""
        await asyncio.gather(*(zone.stop() for zone in self.zones.values()))

    async def play(self, tenant: str, zone: str, playlist: str, volume: float, *, is_shuffled: bool) -> JsonDict:
        """Play a playlist in a zone until it is stopped.

        Raises NotFound, InvalidInput (playlist_empty), Conflict("music_of_another") while it plays for another tenant.
        """
        if self._is_anothers(zone, tenant):
            raise Conflict("music_of_another", zone=zone)
        if not await asyncio.to_thread(self.shelf.files, playlist):
            raise InvalidInput("playlist_empty", playlist=playlist[:80], known=", ".join(sorted(SUFFIXES)))
        programme = Programme(zone, tenant, playlist, volume, is_shuffled, utc_now())

        def keep(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM music WHERE zone = ?", (zone,))
            insert_row(db, "music", {**asdict(programme), "is_shuffled": int(is_shuffled)})

        await self._db.write(keep, durable=True)
        await self.zones[zone].play(programme)
        return {"id": zone, **(self.zones[zone].as_json() or {})}

    async def stop(self, zone: str, tenant: str = "") -> bool:
        """No music of a tenant in a zone ("": of nobody); False when there was none."""
        if tenant and self._is_anothers(zone, tenant):
            return False
        await self._db.write(lambda db: db.execute("DELETE FROM music WHERE zone = ?", (zone,)) and None, durable=True)
        is_playing = self.zones[zone].programme is not None
        await self.zones[zone].stop()
        return is_playing

    def _is_anothers(self, zone: str, tenant: str) -> bool:
        programme = self.zones[zone].programme
        return programme is not None and programme.tenant != tenant

    def as_json(self, tenant: str) -> list[JsonDict]:
        """The zones in which music plays; of what plays for another tenant, that it does."""
        playing = ((name, zone.as_json()) for name, zone in self.zones.items())
        hidden = {name: {"playlist": "", "file": ""} if self._is_anothers(name, tenant) else {} for name in self.zones}
        return [{"id": name, **document, **hidden[name]} for name, document in playing if document is not None]


def _programme(row: sqlite3.Row) -> Programme:
    names = ("zone", "tenant", "playlist", "volume", "started_at")
    fields: dict[str, Any] = {name: row[name] for name in names}
    return Programme(**fields, is_shuffled=bool(row["is_shuffled"]))
