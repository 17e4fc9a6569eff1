"""Dubbing: subtitles in, a narration track out in which every cue starts when the file says.

A cue is spoken at its own pace; when that takes longer than the cue lasts it is spoken faster, up to a limit. What is
still too long may run on until the next cue begins and is faded out there; the report names every cue that did not fit.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from appliance.audio.files import read_audio, resample, to_mono
from appliance.audio.tags import Tags, read_tags, tag_file
from appliance.contracts import JsonDict, Samples
from appliance.database import Database, insert_row, utc_now
from appliance.errors import InvalidInput, NotFound, StorageFull, VoicedError, error_record
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.publishing.rendering import LineRenderer, filing_id
from appliance.publishing.subtitles import Cue, read_subtitles
from appliance.synthesis import SpeechRequest
from appliance.vault.keys import Owner
from appliance.voices.blobs import BlobStore
from appliance.voices.records import clean_name, new_id, to_json

log = logging.getLogger(__name__)

CLIENT, PURPOSE = "dubbing", "publish"
SPEEDS = (1.0, 1.6)  # what `max_speed` may be; faster speech is not followed
BREATH_S = 0.02  # silence before the next cue
WORTHWHILE = 1.02  # a rate nearer to 1 than this is not worth another rendering
FADE_S = 0.03
ONSET_S = 0.01  # kept before the first sound of a cue
ONSET_DB = -40.0  # below the cue's peak: silence
TRACK_RATE = 24_000
LONGEST_CUE_S = 600.0
FITS, FASTER, OVERRUNS, CUT = "fits", "faster", "overruns", "cut"


@dataclass(frozen=True)
class DubbedCue:
    """What became of a cue. Times in seconds."""

    start: float
    end: float
    text: str
    speed: float
    duration_s: float  # as it was spoken
    state: str  # fits | faster | overruns (past its end, not into the next) | cut
    cut_s: float  # of its end, that the next cue did not leave room for
    rendition: str
    sha256: str  # of its sound
    label_s: float = 0.0  # of the audible label in that file


@dataclass(frozen=True)
class Dubbing:
    """One narration."""

    tenant: str
    id: str
    filename: str
    voice: str
    spec: JsonDict  # language, max_speed, format, cues
    state: str  # running | done | failed
    spoken: int  # cues that are through
    cues: tuple[DubbedCue, ...]
    track: str | None  # digest
    duration_s: float | None
    error: JsonDict | None
    created_at: str
    finished_at: str | None

    def as_json(self) -> JsonDict:
        counts = {state: sum(cue.state == state for cue in self.cues) for state in (FITS, FASTER, OVERRUNS, CUT)}
        row = {key: value for key, value in asdict(self).items() if key not in ("tenant", "spec", "cues")}
        settings = {key: self.spec[key] for key in ("language", "max_speed", "format")}
        cues = [asdict(cue) for cue in self.cues]
        return {**row, **settings, "to_speak": len(self.spec["cues"]), "counts": counts, "cues": cues}


@dataclass(frozen=True)
class NewDubbing:
    """What to narrate. `content` is an SRT or WebVTT file."""

    content: str
    filename: str
    voice: str
    language: str = "auto"
    max_speed: float = 1.3
    format: str = "wav"  # wav | flac


class Dubber:
    """The narrations of the box. `start` and `stop` frame its life."""

    def __init__(self, db: Database, blobs: BlobStore, renderer: LineRenderer) -> None:
        self._db = db
        self._blobs = blobs
        self._renderer = renderer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.work_dir = blobs.root / "dubbing"

    async def start(self) -> None:
        """Take up what a previous daemon left: cues that were spoken are found again."""
        query = "SELECT * FROM dubbings WHERE state = 'running' ORDER BY created_at"
        for row in await self._db.read(lambda db: db.execute(query).fetchall()):
            self._begin(_dubbing(row))

    async def stop(self) -> None:
        """Idempotent; what is under way goes on after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, tenant: str, new: NewDubbing) -> Dubbing:
        """Begin a narration. Raises InvalidInput (subtitles_unreadable, subtitles_empty, max_speed_out_of_range,
        format_unknown), and what the first cue's text or voice raises, so that a mistake is told at once.
        """
        cues = await asyncio.to_thread(read_subtitles, new.content)
        if not SPEEDS[0] <= new.max_speed <= SPEEDS[1]:
            raise InvalidInput("max_speed_out_of_range", speed=new.max_speed, lowest=SPEEDS[0], highest=SPEEDS[1])
        if new.format not in ("wav", "flac"):
            raise InvalidInput("format_unknown", format=new.format[:20], known="wav, flac")
        voice = new.voice or await self._renderer.synthesis.default_voice(tenant, PURPOSE)
        await self._renderer.synthesis.identify(_request(tenant, voice, cues[0].text, new.language))
        spec = {"language": new.language, "max_speed": new.max_speed, "format": new.format}
        row = {
            "tenant": tenant,
            "id": new_id("dub"),
            "filename": clean_name(new.filename),
            "voice": voice,
            "spec": to_json({**spec, "cues": [asdict(cue) for cue in cues]}),
            "state": "running",
            "cues": "[]",
            "created_at": utc_now(),
        }
        await self._db.write(lambda db: insert_row(db, "dubbings", row), durable=True)
        dubbing = await self.get(tenant, str(row["id"]))
        self._begin(dubbing)
        return dubbing

    async def get(self, tenant: str, dubbing_id: str) -> Dubbing:
        """Raises NotFound("dubbing_not_found")."""
        query, key = "SELECT * FROM dubbings WHERE tenant = ? AND id = ?", (tenant, clean_name(dubbing_id))
        row = await self._db.read(lambda db: db.execute(query, key).fetchone())
        if row is None:
            raise NotFound("dubbing_not_found", dubbing=key[1][:80])
        return _dubbing(row)

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Dubbing]:
        """Newest first."""
        listing = Listing("SELECT * FROM dubbings", "tenant = ?", (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _dubbing))

    async def track(self, dubbing: Dubbing) -> Path:
        """The finished track. Raises NotFound("dubbing_not_found") before it is done, else as `BlobStore.path`."""
        if dubbing.track is None:
            raise NotFound("dubbing_not_found", dubbing=dubbing.id)
        return await asyncio.to_thread(self._blobs.path, dubbing.track)

    # ------------------------------------------------------------ work

    def _begin(self, dubbing: Dubbing) -> None:
        task = asyncio.create_task(self._run(dubbing), name=f"dub {dubbing.id}")
        self._tasks[dubbing.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(dubbing.id, None))

    async def _run(self, dubbing: Dubbing) -> None:
        try:
            cues = [Cue(**cue) for cue in dubbing.spec["cues"]]
            done: list[DubbedCue] = []
            for cue, slot in zip(cues, _slots(cues), strict=True):
                done.append(await self._speak(dubbing, cue, slot))
                await self._set(dubbing, "spoken = ?", len(done))
            owner = (await self._renderer.synthesis.identify(_request_of(dubbing, cues[0], 1.0))).voice.owner
            digest, seconds = await asyncio.to_thread(self._assemble, dubbing, done, owner)
            finished = ("done", to_json([asdict(cue) for cue in done]), digest, seconds, utc_now())
            await self._set(dubbing, "state = ?, cues = ?, track = ?, duration_s = ?, finished_at = ?", *finished)
        except VoicedError as error:
            await self._fail(dubbing, error_record(error))
        except Exception as error:
            log.exception("dubbing %s failed", dubbing.id)
            await self._fail(dubbing, error_record(error))

    async def _fail(self, dubbing: Dubbing, error: JsonDict) -> None:
        await self._set(dubbing, "state = 'failed', error = ?, finished_at = ?", to_json(error), utc_now())

    async def _set(self, dubbing: Dubbing, change: str, *values: object) -> None:
        query = f"UPDATE dubbings SET {change} WHERE tenant = ? AND id = ?"  # noqa: S608 - `change` is written above
        await self._db.write(lambda db: db.execute(query, (*values, dubbing.tenant, dubbing.id)) and None)

    async def _speak(self, dubbing: Dubbing, cue: Cue, slot: float) -> DubbedCue:
        """One cue at the rate that fits it; `slot` is the time until the next one begins."""
        spoken = await self._at(dubbing, cue, 1.0)
        window = cue.end - cue.start
        speed = min(float(dubbing.spec["max_speed"]), spoken.duration_s / window)
        if speed > WORTHWHILE:
            spoken = await self._at(dubbing, cue, round(speed, 3))
        cut = max(0.0, spoken.duration_s - slot)
        if cut > 0:
            state = CUT
        elif spoken.duration_s > window * WORTHWHILE:
            state = OVERRUNS
        else:
            state = FASTER if spoken.speed > 1 else FITS
        return replace(spoken, state=state, cut_s=round(cut, 3))

    async def _at(self, dubbing: Dubbing, cue: Cue, speed: float) -> DubbedCue:
        request = _request_of(dubbing, cue, speed)
        identified = await self._renderer.synthesis.identify(request)
        filed = filing_id(identified.rendition, identified.label_s)
        rendition = await self._renderer.find(dubbing.tenant, filed)
        if rendition is None:
            rendition = await self._renderer.make(request)
        label_s = float(rendition.marks.get("label_s", 0.0))
        words, _ = await asyncio.to_thread(self._load, rendition.sha256, label_s)
        seconds = round(len(words) / TRACK_RATE, 4)
        return DubbedCue(
            cue.start, cue.end, cue.text, speed, seconds, FITS, 0.0, rendition.id, rendition.sha256, label_s
        )

    def _load(self, sha256: str, label_s: float) -> tuple[Samples, Samples]:
        """A cue's words at the track's rate, from their onset to their last sound, and the label before them."""
        decoded = read_audio(self._blobs.read(sha256), max_duration_s=LONGEST_CUE_S)
        samples = resample(to_mono(decoded.samples), decoded.sample_rate, TRACK_RATE)
        border = round(label_s * TRACK_RATE)
        return trimmed(samples[border:], TRACK_RATE), samples[:border]

    def _assemble(self, dubbing: Dubbing, cues: Sequence[DubbedCue], owner: Owner | None) -> tuple[str, float]:
        """Write the track cue by cue: it is never in memory whole. Raises StorageFull."""
        self.work_dir.mkdir(parents=True, exist_ok=True)
        path = self.work_dir / f"{dubbing.id}-{secrets.token_hex(4)}"
        tagged, written = path.with_suffix(".tagged"), 0
        try:
            with soundfile.SoundFile(path, "w", TRACK_RATE, 1, "PCM_16", format=dubbing.spec["format"].upper()) as file:
                for samples in self._pieces(cues):
                    file.write(samples)
                    written += len(samples)
            tag_file(path, tagged, dubbing.spec["format"], self._tags(cues))
            return self._blobs.put_file(tagged, owner), written / TRACK_RATE
        except (OSError, soundfile.SoundFileError) as error:
            raise StorageFull("storage_full", path=str(self.work_dir), free_mb=0) from error
        finally:
            path.unlink(missing_ok=True)
            tagged.unlink(missing_ok=True)

    def _tags(self, cues: Sequence[DubbedCue]) -> Tags:
        """What the track says of itself in its metadata: what its first cue does."""
        return read_tags(self._blobs.read(cues[0].sha256))

    def _pieces(self, cues: Sequence[DubbedCue]) -> Iterator[Samples]:
        """Silence and cues in turns. The audible label is heard once: before the first cue, or where that begins too
        early at the end of the track.
        """
        at, label = 0, self._load(cues[0].sha256, cues[0].label_s)[1]
        for cue, slot in zip(cues, _slots(cues), strict=True):
            start = round(cue.start * TRACK_RATE)
            if len(label) and at + len(label) <= start:
                yield np.zeros(start - len(label) - at, np.float32)
                yield label
                at, label = start, label[:0]
            yield np.zeros(start - at, np.float32)
            words, _ = self._load(cue.sha256, cue.label_s)
            words = faded_out(words, int(min(slot, LONGEST_CUE_S) * TRACK_RATE))
            yield words
            at = start + len(words)
        yield label


def trimmed(samples: Samples, sample_rate: int) -> Samples:
    """Without the silence at both ends; `ONSET_S` before the first sound stays."""
    loud = np.flatnonzero(np.abs(samples) > np.max(np.abs(samples), initial=0.0) * 10 ** (ONSET_DB / 20))
    if len(loud) == 0:
        return samples
    margin = int(ONSET_S * sample_rate)
    return samples[max(0, loud[0] - margin) : loud[-1] + 4 * margin]


def faded_out(samples: Samples, most: int) -> Samples:
    """At most `most` samples; what is cut off ends in a short fade."""
    if len(samples) <= most:
        return samples
    kept = samples[:most].copy()
    fade = min(most, int(FADE_S * TRACK_RATE))
    kept[most - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return kept


def _slots(cues: Sequence[Cue | DubbedCue]) -> list[float]:
    """Seconds that each cue has until the next one begins."""
    return [max(0.0, after.start - cue.start - BREATH_S) for cue, after in pairwise(cues)] + [float("inf")]


def _request(tenant: str, voice: str, text: str, language: str, speed: float = 1.0) -> SpeechRequest:
    return SpeechRequest(tenant, voice, text, language, speed=speed, client=CLIENT, purpose=PURPOSE)


def _request_of(dubbing: Dubbing, cue: Cue, speed: float) -> SpeechRequest:
    return _request(dubbing.tenant, dubbing.voice, cue.text, dubbing.spec["language"], speed)


def _dubbing(row: sqlite3.Row) -> Dubbing:
    return Dubbing(
        tenant=row["tenant"],
        id=row["id"],
        filename=row["filename"],
        voice=row["voice"],
        spec=json.loads(row["spec"]),
        state=row["state"],
        spoken=row["spoken"],
        cues=tuple(DubbedCue(**cue) for cue in json.loads(row["cues"])),
        track=row["track"],
        duration_s=row["duration_s"],
        error=json.loads(row["error"]) if row["error"] else None,
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
