"""The loudspeaker: keeps a player process alive and plays one sound after the other through it.

A player that dies, hangs or loses its device is replaced. No device is a state with a reason and a remedy, and looking
for one goes on: soon after anything about the machine's sound hardware changed, now and then otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.contracts import Audio, JsonDict
from appliance.database import utc_now
from appliance.errors import Unavailable
from appliance.framing import FrameStream, FramingError, open_frame_stream
from appliance.messages import text
from appliance.settings import LoudspeakerSettings

log = logging.getLogger(__name__)

CHUNK_S = 0.5
SENT_AHEAD_S = 10.0  # how much the player may hold beyond what was heard; the rest waits here
HARDWARE_FILES = (Path("/proc/asound/cards"), Path("/dev/snd"))


@dataclass(frozen=True)
class Supervision:
    """Patience with the player process."""

    retry_s: float = 3.0  # after a failure; doubles up to
    retry_most_s: float = 30.0  # a box without a sound device shall not spend its processor looking for one
    look_s: float = 1.0  # how often the sound hardware is compared with what it was
    start_s: float = 20.0  # until the first report
    silence_s: float = 5.0  # a player that reports nothing for so long hangs in its device


@dataclass(frozen=True)
class LoudspeakerState:
    """What the loudspeaker is doing; `code` explains every state but "open"."""

    state: str  # "disabled" | "starting" | "open" | "absent" | "error"
    code: str = ""
    measured: JsonDict = field(default_factory=dict)
    device: str = ""
    sample_rate: int = 0  # Hz
    channels: int = 0
    latency_s: float = 0.0
    since: str = ""  # ISO 8601, UTC
    restarts: int = 0  # players replaced after they had worked
    underruns: int = 0  # of the present player
    volume: float = 1.0

    def as_json(self, language: str = "en") -> JsonDict:
        """For doors, with the explanation in words."""
        message = text(f"{self.code}.message", language, **self.measured) if self.code else ""
        remedy = text(f"{self.code}.remedy", language, **self.measured) if self.code else ""
        return {**self.__dict__, "message": message, "remedy": remedy}


@dataclass(frozen=True)
class Played:
    """How a sound ended."""

    outcome: str  # "played" | "stopped" | "lost" (the player or its device went away)
    position_s: float  # how much was heard, as far as known
    underruns: int = 0
    code: str = ""  # for "lost"
    has_started: bool = True  # False: nothing of it was heard


class _Playback:
    """One sound on its way, seen from here."""

    def __init__(self, on_started: Callable[[], None]) -> None:
        self._on_started = on_started
        self.has_started = False
        self.position_s = 0.0
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


class Loudspeaker:
    """One output of the box. Use as an async context manager."""

    def __init__(
        self,
        settings: LoudspeakerSettings,
        on_change: Callable[[], None] = lambda: None,
        supervision: Supervision = Supervision(),
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._patience = supervision
        self._state = LoudspeakerState("starting", volume=settings.volume)
        if not settings.enabled:
            self._state = replace(self._state, state="disabled", code="loudspeaker_disabled")
        self._stream: FrameStream | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._playing: dict[str, _Playback] = {}
        self._retry_now = asyncio.Event()
        self._tried_at = 0.0  # loop time
        self._task: asyncio.Task[None] | None = None
        self._is_leaving = False

    @property
    def state(self) -> LoudspeakerState:
        return self._state

    @property
    def is_open(self) -> bool:
        """A device is there and takes sound."""
        return self._state.state == "open" and self._stream is not None

    @property
    def player_pid(self) -> int | None:
        """Process id of the present player, for `voiced doctor` and for tests."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def __aenter__(self) -> Loudspeaker:
        if self._settings.enabled:
            self._task = asyncio.create_task(self._supervise(), name="loudspeaker")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_leaving = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def look_again(self) -> None:
        """Somebody wants to be heard: try the device now instead of at the next turn (not in rapid succession)."""
        if asyncio.get_running_loop().time() - self._tried_at > self._patience.look_s:
            self._retry_now.set()

    async def play(
        self, sound_id: str, audio: Audio, *, gain: float = 1.0, on_started: Callable[[], None] = lambda: None
    ) -> Played:
        """Play a whole sound (mono) and wait for its end. Returns "lost" at once when no device is open.

        Cancelling the task fades the sound out.
        """
        stream = self._stream
        if stream is None or not self.is_open:
            return Played("lost", 0.0, code=self._state.code or "player_lost", has_started=False)
        playback = self._playing[sound_id] = _Playback(on_started)
        try:
            await stream.write({"op": "play", "id": sound_id, "sample_rate": audio.sample_rate, "gain": gain})
            await self._send_samples(stream, sound_id, playback, audio)
            return await playback.ended
        except (ConnectionError, RuntimeError):  # the line broke while writing; the supervisor sees it too
            return await playback.ended
        except asyncio.CancelledError:
            await self.stop(sound_id)
            raise
        finally:
            self._playing.pop(sound_id, None)

    async def stop(self, sound_id: str | None = None) -> None:
        """Fade out one sound, or all, within 0.2 s; their `play` returns "stopped"."""
        await self._order({"op": "stop", "id": sound_id})

    async def set_volume(self, volume: float) -> None:
        """Change the volume of the output (amplitude factor 0..1) now and for players to come."""
        self._set(volume=volume)
        await self._order({"op": "volume", "value": volume})

    # ------------------------------------------------------------ sending

    async def _order(self, order: JsonDict) -> None:
        if self._stream is None:
            return
        with suppress(ConnectionError, RuntimeError):
            await self._stream.write(order)

    async def _send_samples(self, stream: FrameStream, sound_id: str, playback: _Playback, audio: Audio) -> None:
        step = round(CHUNK_S * audio.sample_rate)
        samples = np.ascontiguousarray(audio.samples, dtype="<f4")
        for start in range(0, len(samples), step):
            while start / audio.sample_rate - playback.position_s > SENT_AHEAD_S and not playback.ended.done():
                playback.has_moved.clear()
                await playback.has_moved.wait()
            if playback.ended.done():
                return
            await stream.write({"op": "pcm", "id": sound_id}, samples[start : start + step].data)
        await stream.write({"op": "end", "id": sound_id})

    # ------------------------------------------------------------ supervision

    async def _supervise(self) -> None:
        pause_s = self._patience.retry_s
        while True:
            has_worked = await self._run_player()
            if has_worked:
                pause_s = self._patience.retry_s
                self._set(restarts=self._state.restarts + 1)
            await self._wait_for_change(0.1 if has_worked else pause_s)
            if not has_worked:
                pause_s = min(pause_s * 2, self._patience.retry_most_s)

    async def _wait_for_change(self, pause_s: float) -> None:
        """Until the pause is over, somebody asks, or the sound hardware is not what it was."""
        self._retry_now.clear()
        before = _sound_hardware()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + pause_s
        while (left_s := ends_at - loop.time()) > 0 and _sound_hardware() == before:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, self._patience.look_s)):
                    await self._retry_now.wait()
                return

    async def _run_player(self) -> bool:
        """One player from its start to its end; whether it had a device for a while."""
        ours, theirs = socket.socketpair()
        self._tried_at = asyncio.get_running_loop().time()
        try:
            with theirs:
                process = await self._spawn(theirs.fileno())
        except OSError as error:
            ours.close()
            self._set(state="error", code="player_not_started", measured={"detail": str(error)})
            return False
        self._process = process
        last_words: deque[str] = deque(maxlen=5)
        listening = asyncio.create_task(_drain(process.stderr, last_words))
        opened_at: float | None = None
        try:
            self._stream = await open_frame_stream(ours)
            opened_at = await self._follow(self._stream)
        finally:
            if self._stream is None:
                ours.close()
            await self._bury(process, listening)
            if self._state.state in ("open", "starting") and not self._is_leaving:
                detail = last_words[-1] if last_words else f"exit status {process.returncode}"
                self._set(state="error", code="player_lost", measured={"detail": detail})
            self._fail_playing()
        return opened_at is not None and asyncio.get_running_loop().time() - opened_at > 1.0

    async def _spawn(self, control_fd: int) -> asyncio.subprocess.Process:
        settings = self._settings
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "appliance.audio.player", "--control-fd", str(control_fd)),
            *(f"--device={settings.device}", f"--sample-rate={settings.sample_rate}"),
            f"--volume={self._state.volume}",
            pass_fds=(control_fd,),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the daemon's terminal is not for the player
        )

    async def _follow(self, stream: FrameStream) -> float | None:
        """Act on reports until the line ends or falls silent; when the device was opened (loop time), if ever."""
        opened_at: float | None = None
        while True:
            try:
                async with asyncio.timeout(self._patience.start_s if opened_at is None else self._patience.silence_s):
                    report, _ = await stream.read()
            except (EOFError, FramingError, ConnectionError):
                return opened_at
            except TimeoutError:
                self._set(state="error", code="player_stuck", measured={"device": self._state.device})
                return opened_at
            self._take(report)
            if opened_at is None and self.is_open:
                opened_at = asyncio.get_running_loop().time()

    def _take(self, report: dict[str, Any]) -> None:
        event = report.get("event")
        playback = self._playing.get(report.get("id", ""))
        if event == "device":
            self._take_device(report)
        elif event == "alive":
            self._state = replace(self._state, underruns=report["underruns"])
        elif event == "refused":
            log.warning("the player refused %s: %s", report.get("op"), report.get("detail"))
            if playback is not None and report.get("op") in ("play", "pcm"):
                playback.lose("player_refused")
        elif playback is not None and event == "started":
            playback.start()
        elif playback is not None and event == "position":
            playback.position_s = report["position_s"]
            playback.has_moved.set()
        elif playback is not None and event == "finished":
            playback.finish(Played(report["outcome"], report["position_s"], report["underruns"]))

    def _take_device(self, report: dict[str, Any]) -> None:
        known = {key: report[key] for key in ("device", "sample_rate", "channels", "latency_s") if key in report}
        self._set(state=report["state"], code=report.get("code", ""), measured=report.get("measured", {}), **known)

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

    def _fail_playing(self) -> None:
        for playback in self._playing.values():
            playback.lose(self._state.code or "player_lost")

    def _set(self, **changes: Any) -> None:
        """Change the state; what people should know of is logged once per change."""
        before = self._state
        if changes.get("state", before.state) != before.state or changes.get("code", before.code) != before.code:
            changes["since"] = utc_now()
        self._state = replace(before, **changes)
        if (self._state.state, self._state.code) == (before.state, before.code):
            return
        if self._state.code:
            log.warning("loudspeaker: %s", Unavailable(self._state.code, **self._state.measured))
        elif self.is_open:
            log.info("loudspeaker: %s, %d Hz, %d ch", self._state.device, self._state.sample_rate, self._state.channels)
        self._on_change()


async def _drain(stream: asyncio.StreamReader | None, last_words: deque[str]) -> None:
    """Keep the last lines of a child's stderr (ALSA is talkative) and log all of them for the curious."""
    if stream is None:
        return
    with suppress(ValueError):  # a line beyond the reader's limit: not worth more
        async for line in stream:
            last_words.append(line.decode(errors="replace").strip())
            log.debug("player: %s", last_words[-1])


def _sound_hardware() -> tuple[object, ...]:
    """Something that changes when a sound card comes or goes."""
    seen: list[object] = []
    for path in HARDWARE_FILES:
        try:
            seen.append(path.read_text() if path.is_file() else sorted(entry.name for entry in path.iterdir()))
        except OSError:
            seen.append(None)
    return tuple(map(str, seen))
