"""The loudspeaker of a zone: keeps a player process alive and plays sounds through it.

A player that dies, hangs or loses its last device is replaced. No device is a state with a reason and a remedy, and
looking for one goes on: soon after anything about the machine's sound hardware changed, now and then otherwise. On a
device that is not the preferred one, a second player tries the better ones, and takes over when one opens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from appliance.announcer.player_link import Music, Played, PlayerLink, Supervision
from appliance.contracts import Audio, JsonDict
from appliance.database import utc_now
from appliance.errors import Unavailable
from appliance.messages import text
from appliance.settings import LoudspeakerSettings, ZoneSettings

log = logging.getLogger(__name__)

HARDWARE_FILES = (Path("/proc/asound/cards"), Path("/dev/snd"))


@dataclass(frozen=True)
class LoudspeakerState:
    """What the loudspeaker is doing; `code` explains every state but "open"."""

    state: str  # "disabled" | "starting" | "open" | "absent" | "error"
    code: str = ""
    measured: JsonDict = field(default_factory=dict)
    device: str = ""
    wanted: str = ""  # the same device as the settings call it
    preferred: str = ""  # the device that the settings want most
    sample_rate: int = 0  # Hz
    channels: int = 0
    latency_s: float = 0.0
    since: str = ""  # ISO 8601, UTC
    restarts: int = 0  # players replaced after they had worked
    losses: int = 0  # devices that went away under a player that went on with another
    underruns: int = 0  # of the present player
    volume: float = 1.0

    @property
    def alarm(self) -> tuple[str, JsonDict] | None:
        """Code and figures of what somebody should look after."""
        if self.code and self.state != "disabled":
            return self.code, self.measured
        if self.state == "open" and self.wanted != self.preferred:
            return "sound_device_fallback", {"device": self.device, "preferred": self.preferred or "default"}
        return None

    def as_json(self, language: str = "en") -> JsonDict:
        """For doors, with the explanation in words."""
        message = text(f"{self.code}.message", language, **self.measured) if self.code else ""
        remedy = text(f"{self.code}.remedy", language, **self.measured) if self.code else ""
        return {**self.__dict__, "message": message, "remedy": remedy, "alarms": self.alarms_as_json(language)}

    def alarms_as_json(self, language: str) -> list[JsonDict]:
        """What somebody should look after, in words."""
        if self.alarm is None:
            return []
        code, measured = self.alarm
        words = {part: text(f"{code}.{part}", language, **measured) for part in ("message", "remedy")}
        return [{"code": code, "measured": measured, "since": self.since, **words}]


class Outlet(Protocol):
    """Where the sound of a zone goes: a loudspeaker of this box, or anything that plays the same way."""

    @property
    def state(self) -> LoudspeakerState: ...

    @property
    def is_open(self) -> bool: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def look_again(self) -> None: ...

    async def play(self, sound_id: str, sound: Audio | Music, *, gain: float = 1.0, start_s: float = 0.0) -> Played: ...

    async def stop(self, sound_id: str | None = None, *, fade_s: float | None = None) -> None: ...

    async def set_volume(self, volume: float) -> None: ...

    def position_s(self, sound_id: str) -> float | None: ...


class Loudspeaker:
    """One output of the box. Use as an async context manager, or `open` and `close` it."""

    def __init__(
        self,
        settings: LoudspeakerSettings,
        on_change: Callable[[], None] = lambda: None,
        supervision: Supervision | None = None,
        zone: ZoneSettings | None = None,
    ) -> None:
        """`zone`: which of the zones (None: the first)."""
        self._settings = settings
        self._zone = zone or next(iter(settings.named_zones.values()))
        self._on_change = on_change
        self._patience = supervision or Supervision()
        self._state = LoudspeakerState("starting", volume=self._zone.volume, preferred=self._zone.devices[0])
        if not settings.enabled:
            self._state = replace(self._state, state="disabled", code="loudspeaker_disabled")
        self._link: PlayerLink | None = None
        self._links: set[PlayerLink] = set()  # all that live: one, two while a better device takes over
        self._retiring: set[asyncio.Task[None]] = set()
        self._avoided: dict[str, float] = {}  # device -> loop time until which it comes last
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
        return self._link is not None and self._link.is_open

    @property
    def player_pid(self) -> int | None:
        """Process id of the present player, for `voiced doctor` and for tests."""
        return self._link.pid if self._link is not None else None

    async def __aenter__(self) -> Loudspeaker:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to look for the device."""
        if self._settings.enabled:
            self._task = asyncio.create_task(self._supervise(), name="loudspeaker")

    async def close(self) -> None:
        """Fall silent and let go of it."""
        self._is_leaving = True
        for task in (self._task, *self._retiring):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._task = None
        for link in tuple(self._links):
            await link.close()

    def look_again(self) -> None:
        """Somebody wants to be heard: try the device now instead of at the next turn (not in rapid succession)."""
        if asyncio.get_running_loop().time() - self._tried_at > self._patience.look_s:
            self._retry_now.set()

    async def play(
        self,
        sound_id: str,
        sound: Audio | Music,
        *,
        gain: float = 1.0,
        start_s: float = 0.0,
        on_started: Callable[[], None] = lambda: None,
    ) -> Played:
        """Play a sound (mono) or a file from `start_s` and wait for its end; "lost" at once when no device is open.

        Ids of music begin with "music". Cancelling the task fades the sound out.
        """
        if self._link is None or not self._link.is_open:
            return Played("lost", start_s, code=self._state.code or "player_lost", has_started=False)
        return await self._link.play(sound_id, sound, gain=gain, start_s=start_s, on_started=on_started)

    async def stop(self, sound_id: str | None = None, *, fade_s: float | None = None) -> None:
        """Fade out one sound, or all, within 0.2 s or `fade_s`; their `play` returns "stopped"."""
        if self._link is not None:
            fade = {} if fade_s is None else {"fade_s": fade_s}
            await self._link.order({"op": "stop", "id": sound_id, **fade})

    async def set_volume(self, volume: float) -> None:
        """Change the volume of the output (amplitude factor 0..1) now and for players to come."""
        self._state = replace(self._state, volume=volume)
        if self._link is not None:
            await self._link.order({"op": "volume", "value": volume})

    def position_s(self, sound_id: str) -> float | None:
        """Seconds of a sound that were heard so far; None: it does not play here."""
        return None if self._link is None else self._link.positions().get(sound_id)

    # ------------------------------------------------------------ supervision

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = self._patience.retry_s
        while True:
            self._link = self._launch(self._devices())
            link = await self._until_over(self._link)
            self._bury(link)
            has_worked = link.opened_at is not None and loop.time() - link.opened_at > 1.0
            if has_worked:
                pause_s = self._patience.retry_s
                self._state = replace(self._state, restarts=self._state.restarts + 1)
            await self._wait_for_change(0.1 if has_worked else pause_s)
            if not has_worked:
                pause_s = min(pause_s * 2, self._patience.retry_most_s)

    def _devices(self) -> tuple[str, ...]:
        """In order of preference, the ones that lately took sound without playing it last."""
        now = asyncio.get_running_loop().time()
        is_avoided = {device: self._avoided.get(device, 0.0) > now for device in self._zone.devices}
        return tuple(sorted(self._zone.devices, key=lambda device: is_avoided[device]))

    def _launch(self, devices: tuple[str, ...]) -> PlayerLink:
        self._tried_at = asyncio.get_running_loop().time()
        settings, zone = self._settings, self._zone
        options = (
            *(f"--device={device}" for device in devices),
            *(f"--channel={channel}" for channel in zone.channels),
            f"--sample-rate={settings.sample_rate}",
            f"--volume={self._state.volume}",
            f"--delay-s={zone.delay_ms / 1000}",
            f"--duck-db={settings.duck_db}",
            f"--media-role={settings.media_role}",
        )
        link = PlayerLink(options, self._patience, self._take)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))
        return link

    async def _until_over(self, link: PlayerLink) -> PlayerLink:
        """Until the present player ends; a player with a better device takes over meanwhile. Returns who ended."""
        while not link.task.done():
            search = asyncio.create_task(self._find_better(link), name="better device")
            try:
                await asyncio.wait({link.task, search}, return_when=asyncio.FIRST_COMPLETED)
                if search.done() and not link.task.done():
                    link = self._hand_over(link, search.result())
            finally:
                search.cancel()
                await asyncio.wait({search})
        return link

    async def _find_better(self, link: PlayerLink) -> PlayerLink:
        """A player with a device that the settings like better than the one `link` has."""
        pause_s = self._patience.retry_s
        while True:
            better = self._better_than(link)
            if not better:
                await asyncio.sleep(self._patience.look_s)
                continue
            await self._wait_for_change(pause_s)
            candidate = self._launch(better)
            try:
                await candidate.has_decided.wait()
            finally:
                if not candidate.is_open:
                    await candidate.close()
            if candidate.is_open:
                return candidate
            pause_s = min(pause_s * 2, self._patience.retry_most_s)

    def _better_than(self, link: PlayerLink) -> tuple[str, ...]:
        now = asyncio.get_running_loop().time()
        if not link.is_open or link.wanted not in self._zone.devices:
            return ()
        before = self._zone.devices[: self._zone.devices.index(link.wanted)]
        return tuple(device for device in before if self._avoided.get(device, 0.0) <= now)

    def _hand_over(self, old: PlayerLink, new: PlayerLink) -> PlayerLink:
        self._link = new
        if new.report is not None:
            self._take(new, new.report)
        task = asyncio.create_task(old.retire(), name="retiring player")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return new

    def _bury(self, link: PlayerLink) -> None:
        if link.end["code"] == "player_stuck" and link.wanted:
            self._avoided[link.wanted] = asyncio.get_running_loop().time() + self._patience.avoid_s
        if not self._is_leaving:
            self._set(**link.end)

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

    def _take(self, link: PlayerLink, report: JsonDict) -> None:
        if link is not self._link:
            return
        if report["event"] == "alive":
            self._state = replace(self._state, underruns=report["underruns"])
        elif report["event"] == "lost":
            log.warning("loudspeaker: %s", Unavailable(report["code"], **report["measured"]))
            self._state = replace(self._state, losses=self._state.losses + 1)
        else:
            told = ("device", "wanted", "sample_rate", "channels", "latency_s")
            self._set(state="open", code="", measured={}, **{key: report[key] for key in told})

    def _set(self, **changes: Any) -> None:
        """Change the state; what people should know of is logged once per change."""
        before, after = self._state, replace(self._state, **changes)
        is_news = (before.state, before.alarm) != (after.state, after.alarm) or before.device != after.device
        self._state = replace(after, since=utc_now()) if is_news else after
        if not is_news:
            return
        if self._state.alarm:
            code, measured = self._state.alarm
            log.warning("loudspeaker: %s", Unavailable(code, **measured))
        elif self.is_open:
            log.info("loudspeaker: %s, %d Hz, %d ch", self._state.device, self._state.sample_rate, self._state.channels)
        self._on_change()


def _sound_hardware() -> tuple[object, ...]:
    """Something that changes when a sound card comes or goes."""
    seen: list[object] = []
    for path in HARDWARE_FILES:
        try:
            seen.append(path.read_text() if path.is_file() else sorted(entry.name for entry in path.iterdir()))
        except OSError:
            seen.append(None)
    return tuple(map(str, seen))
