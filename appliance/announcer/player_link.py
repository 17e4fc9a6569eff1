"""One player process and the line to it: from its start to its end, with the sounds that are on their way."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.contracts import Audio, JsonDict
from appliance.environment import player_environment
from appliance.framing import FrameStream, FramingError, open_frame_stream

log = logging.getLogger(__name__)

CHUNK_S = 0.5
SENT_AHEAD_S = 10.0  # how much the player may hold beyond what was heard; the rest waits here


@dataclass(frozen=True)
class Supervision:
    """Patience with the player process."""

    retry_s: float = 3.0  # after a failure; doubles up to
    retry_most_s: float = 30.0  # a box without a sound device shall not spend its processor looking for one
    look_s: float = 1.0  # how often the sound hardware is compared with what it was
    start_s: float = 20.0  # until the first report
    silence_s: float = 5.0  # a player that reports nothing for so long hangs in its device
    avoid_s: float = 60.0  # how long a device that took sound and played none comes last


@dataclass(frozen=True)
class Played:
    """How a sound ended."""

    outcome: str  # "played" | "stopped" | "lost" (the player or its device went away)
    position_s: float  # how much was heard, as far as known
    underruns: int = 0
    code: str = ""  # for "lost"
    has_started: bool = True  # False: nothing of it was heard


@dataclass(frozen=True)
class Music:
    """A file that sounds under speech."""

    path: Path
    gain: float = 1.0  # 0..1
    start_s: float = 0.0


class _Playback:
    """One sound on its way, seen from here."""

    def __init__(self, start_s: float, on_started: Callable[[], None]) -> None:
        self._on_started = on_started
        self.has_started = False
        self.position_s = start_s
        self.has_moved = asyncio.Event()
        self.ended: asyncio.Future[Played] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self.has_started = True
        self._on_started()

    def finish(self, played: Played) -> None:
        if not self.ended.done():
            self.ended.set_result(played)
        self.has_moved.set()

    def lose(self, code: str) -> None:
        self.finish(Played("lost", self.position_s, code=code, has_started=self.has_started))


class PlayerLink:
    """A player that was started with `options` and lives in `task`; `on_report` hears of its device."""

    def __init__(
        self, options: Sequence[str], patience: Supervision, on_report: Callable[[PlayerLink, JsonDict], None]
    ) -> None:
        self._options = options
        self._patience = patience
        self._on_report = on_report
        self._process: asyncio.subprocess.Process | None = None
        self._stream: FrameStream | None = None
        self._playing: dict[str, _Playback] = {}
        self._last_words: deque[str] = deque(maxlen=5)
        self.wanted = ""  # the device it has open, as the settings call it
        self.report: JsonDict | None = None  # what it said of that device
        self.opened_at: float | None = None  # loop time
        self.has_decided = asyncio.Event()  # open, or over
        self.end: JsonDict = {}  # state, code, measured: why it is over
        self.task = asyncio.create_task(self._live(), name="player")

    @property
    def is_open(self) -> bool:
        """A device is there and takes sound."""
        return self.opened_at is not None and self._stream is not None and not self.end

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def close(self) -> None:
        """Fall silent and go; idempotent."""
        self.end = self.end or {"state": "error", "code": "player_lost", "measured": {"detail": "closed"}}
        self.task.cancel()
        await asyncio.wait({self.task})

    async def retire(self) -> None:
        """Let what is being said end here, then go: another player has taken over. Music moves over at once."""
        for sound_id, playback in self._playing.items():
            if sound_id.startswith("music"):
                await self.order({"op": "stop", "id": sound_id})
                playback.lose("sound_device_changed")
        for playback in tuple(self._playing.values()):
            await asyncio.wait({playback.ended})  # the end of the process ends them too
        await self.close()

    # ------------------------------------------------------------ orders

    async def order(self, order: JsonDict) -> None:
        """Send an order; a line that is gone is no error, the player is."""
        if self._stream is not None:
            with suppress(ConnectionError, RuntimeError):
                await self._stream.write(order)

    async def play(
        self,
        sound_id: str,
        sound: Audio | Music,
        *,
        gain: float = 1.0,
        start_s: float = 0.0,
        on_started: Callable[[], None] = lambda: None,
    ) -> Played:
        """Play a sound (mono) from `start_s`, or a file, and wait for its end. Cancelling the task fades it out."""
        stream = self._stream
        if stream is None or not self.is_open:
            return Played("lost", start_s, code="player_lost", has_started=False)
        start_s = sound.start_s if isinstance(sound, Music) else start_s
        playback = self._playing[sound_id] = _Playback(start_s, on_started)
        try:
            if isinstance(sound, Music):
                order = {"op": "music", "id": sound_id, "path": str(sound.path), "gain": sound.gain}
                await stream.write({**order, "start_s": start_s})
            else:
                order = {"op": "play", "id": sound_id, "sample_rate": sound.sample_rate, "gain": gain}
                await stream.write({**order, "start_s": start_s})
                await self._send_samples(stream, sound_id, playback, sound)
            return await playback.ended
        except (ConnectionError, RuntimeError):  # the line broke while writing; the end of the process is seen too
            return await playback.ended
        except asyncio.CancelledError:
            await self.order({"op": "stop", "id": sound_id})
            raise
        finally:
            self._playing.pop(sound_id, None)

    async def _send_samples(self, stream: FrameStream, sound_id: str, playback: _Playback, audio: Audio) -> None:
        step = round(CHUNK_S * audio.sample_rate)
        samples = np.ascontiguousarray(audio.samples, dtype="<f4")
        for start in range(round(playback.position_s * audio.sample_rate), len(samples), step):
            while start / audio.sample_rate - playback.position_s > SENT_AHEAD_S and not playback.ended.done():
                playback.has_moved.clear()
                await playback.has_moved.wait()
            if playback.ended.done():
                return
            await stream.write({"op": "pcm", "id": sound_id}, samples[start : start + step].data)
        await stream.write({"op": "end", "id": sound_id})

    def positions(self) -> dict[str, float]:
        """Seconds heard of each sound that plays, by its id."""
        return {sound_id: playback.position_s for sound_id, playback in self._playing.items()}

    # ------------------------------------------------------------ life

    async def _live(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = process = await self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            self._finish({"state": "error", "code": "player_not_started", "measured": {"detail": str(error)}})
            return
        listening = asyncio.create_task(_drain(process.stderr, self._last_words))
        try:
            self._stream = await open_frame_stream(ours)
            await self._follow(self._stream)
        finally:
            if self._stream is None:
                ours.close()
            await self._bury(process, listening)
            detail = self._last_words[-1] if self._last_words else f"exit status {process.returncode}"
            self._finish({"state": "error", "code": "player_lost", "measured": {"detail": detail}})

    def _finish(self, end: JsonDict) -> None:
        self.end = self.end or end
        for playback in self._playing.values():
            playback.lose(self.end["code"])
        self.has_decided.set()

    async def _spawn(self, control_fd: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "appliance.audio.player", "--control-fd", str(control_fd), *self._options),
            pass_fds=(control_fd,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=player_environment(),
            start_new_session=True,  # Ctrl-C in the daemon's terminal is not for the player
        )

    async def _follow(self, stream: FrameStream) -> None:
        """Act on reports until the line ends or falls silent."""
        while True:
            patience_s = self._patience.start_s if self.opened_at is None else self._patience.silence_s
            try:
                async with asyncio.timeout(patience_s):
                    report, _ = await stream.read()
            except (EOFError, FramingError, ConnectionError):
                return
            except TimeoutError:
                self.end = {"state": "error", "code": "player_stuck", "measured": {"device": self.wanted or "–"}}
                return
            self._take(report)

    def _take(self, report: dict[str, Any]) -> None:
        event = report.get("event")
        playback = self._playing.get(report.get("id", ""))
        if event == "device":
            self._take_device(report)
        elif event in ("alive", "lost"):
            self._on_report(self, report)
        elif event == "refused":
            log.warning("the player refused %s: %s", report.get("op"), report.get("detail"))
            if playback is not None and report.get("op") in ("play", "pcm", "music"):
                playback.lose("player_refused")
        elif playback is not None and event == "started":
            playback.start()
        elif playback is not None and event == "position":
            playback.position_s = report["position_s"]
            playback.has_moved.set()
        elif playback is not None and event == "finished":
            playback.finish(Played(report["outcome"], report["position_s"], report["underruns"]))

    def _take_device(self, report: dict[str, Any]) -> None:
        if report["state"] == "open":
            self.wanted, self.report = report["wanted"], report
            if self.opened_at is None:
                self.opened_at = asyncio.get_running_loop().time()
            self.has_decided.set()
            self._on_report(self, report)
        else:
            self.end = {key: report.get(key) for key in ("state", "code", "measured")}

    async def _bury(self, process: asyncio.subprocess.Process, listening: asyncio.Task[None]) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):  # it fades out and goes when the line closes
                    await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await asyncio.wait({listening}, timeout=0.5)  # its last words
            listening.cancel()


async def _drain(stream: asyncio.StreamReader | None, last_words: deque[str]) -> None:
    """Keep the last lines of a child's stderr (ALSA is talkative) and log all of them for the curious."""
    if stream is None:
        return
    with suppress(ValueError):  # a line beyond the reader's limit: not worth more
        async for line in stream:
            last_words.append(line.decode(errors="replace").strip())
            log.debug("player: %s", last_words[-1])
