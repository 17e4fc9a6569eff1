"""What the tests of this folder play with: recognisable speech, and a sound card made of ALSA's own `file` device.

Player, queue, database, blobs and processes are the real ones; only the *content* of speech is made up: the text
"7 0.3" is 0.3 s at a constant level of 7/64, so that it can be found in what was played.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from appliance.announcer.announcer import Announcer
from appliance.announcer.player_link import Supervision
from appliance.announcer.records import Announcement
from appliance.contracts import Audio
from appliance.errors import Busy, InvalidInput, NotFound, VoicedError
from appliance.synthesis import Identified, Speech, SpeechRequest
from appliance.voices.records import VoiceVersion

PATIENCE = Supervision(retry_s=0.2, retry_most_s=0.5, look_s=0.1, silence_s=2.0)

RATE = 48_000
CARD = """
pcm.null {{ type null }}
pcm.voiced_test {{ type file slave.pcm "null" file "{path}" format "raw" }}
pcm.!default {{ type plug slave.pcm "voiced_test" }}
"""
ZONE_CARD = """
pcm.null {{ type null }}
{cards}
pcm.!default {{ type plug slave.pcm "null" }}
"""
ONE_OF_MANY = 'pcm.{name} {{ type file slave.pcm "null" file "{path}" format "raw" }}\n'
OTHER_CARD = """
pcm.null { type null }
pcm.another { type plug slave.pcm "null" }
pcm.!default { type plug slave.pcm "another" }
"""


class SoundCard:
    """What is played lands, sample by sample, in a file; `unplug` takes the card away for players to come."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "asound.conf"
        self.path = folder / "played.raw"
        self.plug()

    def plug(self) -> None:
        self.config.write_text(CARD.format(path=self.path))

    def unplug(self) -> None:
        self.config.write_text(OTHER_CARD)

    def keep_everything(self) -> None:
        """Players to come append to what was played instead of beginning the file anew."""
        self.config.write_text(CARD.format(path=f"|cat >> {self.path}"))

    def played(self) -> np.ndarray:
        """(n,) the left channel; both channels are the same. A restarted player begins the file anew."""
        if not self.path.exists():
            return np.zeros(0, np.float32)
        raw = self.path.read_bytes()
        frames = np.frombuffer(raw[: len(raw) // 8 * 8], "<f4").reshape(-1, 2)
        assert np.array_equal(frames[:, 0], frames[:, 1])
        return frames[:, 0]

    def levels(self) -> list[int]:
        """The messages that were heard in full or in part, in order: runs of one level, at least 20 ms long."""
        return levels_of(self.played())


class SoundCards:
    """Several cards by name, each into a file of its own; a card that is missing is not there for players to come."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.config = folder / "asound.conf"
        self.folder = folder
        self.plug(*names)

    def plug(self, *names: str, **files: str) -> None:
        """What is plugged in from now on; `files`: cards that write elsewhere."""
        paths = {name: str(self.path(name)) for name in names} | files
        cards = "".join(ONE_OF_MANY.format(name=name, path=path) for name, path in paths.items())
        self.config.write_text(ZONE_CARD.format(cards=cards))

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.raw"

    def played(self, name: str, channels: int = 2) -> np.ndarray:
        """(n, channels) what this card got."""
        raw = self.path(name).read_bytes() if self.path(name).exists() else b""
        return np.frombuffer(raw[: len(raw) // (4 * channels) * 4 * channels], "<f4").reshape(-1, channels)

    def levels(self, name: str) -> list[int]:
        return levels_of(self.played(name)[:, 0])


def levels_of(samples: np.ndarray) -> list[int]:
    steps = np.rint(samples * 64).astype(int)
    edges = np.flatnonzero(np.diff(steps, prepend=steps[:1] - 1, append=steps[-1:] - 1)) if len(steps) else []
    runs = [(int(steps[a]), b - a) for a, b in pairwise(edges)]
    return [level for level, length in runs if level != 0 and length > RATE // 50]


class LevelSpeech:
    """Stands in for the content of speech only, behind the same two calls as `Synthesis`."""

    def __init__(self, sample_rate: int, delay_s: float = 0.0) -> None:
        self.sample_rate = sample_rate
        self.delay_s = delay_s
        self.rendered: list[str] = []
        self.busy_times = 0
        self.refusal: VoicedError | None = None

    async def identify(self, request: SpeechRequest) -> Identified:
        speech = await self.open(request)
        return Identified(speech.voice, speech.rendition, speech.seed, 0.0)

    async def open(self, request: SpeechRequest) -> Speech:
        if not request.text.strip():
            raise InvalidInput("text_empty")
        if request.voice != "anna":
            raise NotFound("voice_not_found", voice=request.voice)
        if self.refusal is not None:
            raise self.refusal
        voice = VoiceVersion(
            request.tenant, "anna", 1, engine="levels", files={}, settings={}, metrics={}, lineage={}, created_at="2026"
        )
        return Speech(voice, f"rendition of {request.text}", 0, self.sample_rate, self._chunks(request))

    async def _chunks(self, request: SpeechRequest) -> AsyncIterator[Audio]:
        if self.busy_times > 0:
            self.busy_times -= 1
            raise Busy("box_busy", active=1, retry_after_s=1)
        await asyncio.sleep(self.delay_s)
        self.rendered.append(request.text)
        level, seconds = request.text.split()
        if level == "crash":
            raise RuntimeError("a fault in the engine")
        yield Audio(np.full(round(float(seconds) * self.sample_rate), int(level) / 64, np.float32), self.sample_rate)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until something is true."""
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        await asyncio.sleep(0.01)


async def until_over(announcer: Announcer, *ids: str, timeout_s: float = 15.0) -> list[Announcement]:
    """Wait until all these messages are over; returns them."""
    ends_at = time.monotonic() + timeout_s
    while True:
        rows = [await announcer.get("main", announcement_id) for announcement_id in ids]
        if all(row.is_over for row in rows):
            return rows
        assert time.monotonic() < ends_at, [(row.text, str(row.state), row.reason) for row in rows]
        await asyncio.sleep(0.02)
