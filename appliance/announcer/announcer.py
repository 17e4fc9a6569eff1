"""The announcer: what is said aloud, in which zones, in which order, exactly once.

One task, the conductor, looks at the queue whenever something changed: it lets go of messages that grew too old, has
the next ones of every zone rendered ahead, and gives each zone its turn. Without a sound device messages wait until
they are too old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from appliance.announcer.guests import GuestDesk
from appliance.announcer.hours import Clock, find_time_zone
from appliance.announcer.ledger import Ledger
from appliance.announcer.limits import require_sane, require_volume
from appliance.announcer.loudspeaker import Loudspeaker, Outlet
from appliance.announcer.music import MusicDesk, MusicShelf, ZoneMusic
from appliance.announcer.music_levels import MusicLevels
from appliance.announcer.peer_outlet import PeerOutlet, PeerPatience
from appliance.announcer.player_link import Supervision
from appliance.announcer.queue import AnnouncementQueue, Turn
from appliance.announcer.records import (
    OVER,
    Announcement,
    Handed,
    NewAnnouncement,
    State,
)
from appliance.announcer.remote_zone import RemoteRooms, RemoteZone, Witness
from appliance.announcer.rendering import AHEAD, RenderAhead, RenderingRooms, SpeechMaker, speech_request
from appliance.announcer.zone import Desk, Zone
from appliance.contracts import JsonDict, PeerLinks
from appliance.database import Database, utc_now
from appliance.errors import InvalidInput, NotFound, Unavailable, VoicedError
from appliance.events import Event
from appliance.paging import Page
from appliance.settings import LoudspeakerSettings, ZoneSettings
from appliance.text.cleaning import clean_text
from appliance.voices.blobs import BlobStore
from appliance.voices.records import clean_name

log = logging.getLogger(__name__)


LOOK_AT_CLOCK_S = 20.0  # quiet hours and volumes begin at most this much late

OutletMaker = Callable[[ZoneSettings, Callable[[], None]], Outlet]


async def _nobody(_event: Event) -> None:
    """No audit log is kept."""


@dataclass(frozen=True)
class Surroundings:
    """What is around the announcer: patience, the time, and where its sound goes."""

    supervision: Supervision = field(default_factory=Supervision)
    clock: Clock = field(default_factory=Clock)
    make_outlet: OutletMaker | None = None  # None: a loudspeaker of this box for every zone that is not elsewhere
    peers: PeerLinks | None = None  # the boxes whose zones may be ours
    peer_patience: PeerPatience = field(default_factory=PeerPatience)
    witness: Witness = _nobody  # writes to the audit log
    music_dir: Path = Path("music")  # where playlists are, unless the settings say otherwise


class Announcer:
    """The queue, the rendering ahead and the zones together. Use as an async context manager."""

    def __init__(
        self,
        synthesis: SpeechMaker,
        db: Database,
        blobs: BlobStore,
        settings: LoudspeakerSettings,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Raises InvalidInput("time_zone_unknown")."""
        self._synthesis = synthesis
        self._settings = settings
        self._blobs = blobs
        surroundings = surroundings or Surroundings()
        self._clock = surroundings.clock
        self.time_zone = find_time_zone(settings.time_zone)
        self._wake = asyncio.Event()
        self._queue = AnnouncementQueue(db, settings.max_queue)
        self._ledger = Ledger(self._queue, surroundings.supervision.retry_s)
        rooms = RenderingRooms(synthesis, self._ledger, blobs)
        self._rendering = RenderAhead(rooms, settings.target_lufs, self._wake.set)
        desk = Desk(self._ledger, self._rendering, self._permit, self._wake.set, frozenset(settings.preempts))
        make_outlet = surroundings.make_outlet or (
            lambda zone, on_change: Loudspeaker(settings, on_change, surroundings.supervision, zone)
        )
        remote = RemoteRooms(desk, blobs, self._age_left_s, surroundings.witness)

        def make_zone(name: str, zone: ZoneSettings) -> Zone | RemoteZone:
            if not zone.peer:
                return Zone(name, zone, make_outlet(zone, self._note_outlet), desk)
            outlet = PeerOutlet(zone, surroundings.peers, self._note_outlet, surroundings.peer_patience)
            return RemoteZone(name, zone, outlet, remote)

        self.zones = {name: make_zone(name, zone) for name, zone in settings.named_zones.items()}
        self.guests = GuestDesk(self, surroundings.witness)
        shelf = MusicShelf(settings.music_dir or surroundings.music_dir)
        here = {name: zone for name, zone in self.zones.items() if isinstance(zone, Zone)}
        levels = MusicLevels(db, settings.music_lufs)
        self.music = MusicDesk(db, shelf, {name: self._music_of(zone, shelf, levels) for name, zone in here.items()})
        self._conductor: asyncio.Task[None] | None = None
        self._deadlines: dict[str, tuple[float, str]] = {}  # id -> (loop time, tenant); wall clocks jump, waiting not

    # ------------------------------------------------------------ life

    async def __aenter__(self) -> Announcer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the outputs and begin, with what an earlier process left."""
        if not self._settings.enabled:
            return
        for zone in self.zones.values():
            await zone.outlet.open()
        self._conductor = asyncio.create_task(self._conduct(), name="announcer")
        await self.music.start()

    async def close(self, drain_s: float = 10.0) -> None:
        """Let what is being said end (at most `drain_s`), then go. What waits is said after the next start."""
        if self._conductor is not None:
            self._conductor.cancel()
            await asyncio.wait({self._conductor})
        await self.music.close()
        await self._rendering.close()
        await asyncio.gather(*(zone.close(drain_s) for zone in self.zones.values()))
        await asyncio.gather(*(zone.outlet.close() for zone in self.zones.values()))

    # ------------------------------------------------------------ what doors call

    @property
    def loudspeaker(self) -> Outlet:
        """The output of the first zone."""
        return next(iter(self.zones.values())).outlet

    def zone(self, name: str) -> Zone | RemoteZone:
        """Raises NotFound("zone_not_found") with the names there are."""
        try:
            return self.zones[name]
        except KeyError:
            raise NotFound("zone_not_found", zone=clean_name(name)[:80], known=", ".join(self.zones)) from None

    async def submit(self, tenant: str, new: NewAnnouncement, *, announcement_id: str = "") -> Announcement:
        """Put a message into the queue and return at once; it is on disk by then.

        `new.audio` plays a sound file of the blob store instead of speaking. A message with the key of one that is not
        over, or with an `announcement_id` that there is, is that one. Raises Unavailable (loudspeaker_disabled,
        zone_peer_unknown), NotFound (zone_not_found, blob_not_found), InvalidInput (volume_out_of_range,
        priority_unknown, max_age_out_of_range, repeats_out_of_range), Busy("announcements_full"), and what
        `Synthesis.open` refuses: empty text, unknown voice or language, missing consent.
        """
        if not self._settings.enabled:
            raise Unavailable("loudspeaker_disabled")
        new = await self.check(tenant, new)
        chime = self._settings.chime if new.chime is None else new.chime
        row, is_new = await self._queue.add(tenant, new, chime=chime, announcement_id=announcement_id)
        if is_new:
            self._deadlines[row.id] = (asyncio.get_running_loop().time() + row.max_age_s, tenant)
            self._ledger.tell(row)
        for zone in (self.zones[each.zone] for each in row.zones if each.zone in self.zones):
            if not zone.outlet.is_open:
                zone.outlet.look_again()
        self._wake.set()
        return row

    async def check(self, tenant: str, new: NewAnnouncement) -> NewAnnouncement:
        """The message with its zones named and its text cleaned. Raises what `submit` refuses for good."""
        require_sane(new)
        zones = tuple(dict.fromkeys(new.zones)) or (next(iter(self.zones)),)
        for name in zones:
            zone = self.zone(name)
            if isinstance(zone, RemoteZone):
                await zone.outlet.require(tenant)
        if new.audio:
            await asyncio.to_thread(self._blobs.require, new.audio)
        if new.voice or not new.audio:
            await self._require_speakable(tenant, new)
        return replace(new, text=clean_text(new.text), zones=zones)

    async def prepare(self, tenant: str, new: NewAnnouncement) -> None:
        """Have a message's sound made ahead, so that it starts at once when it is submitted."""
        await self._rendering.prepare(tenant, new)

    async def get(self, tenant: str, announcement_id: str) -> Announcement:
        """One message. Raises NotFound("announcement_not_found")."""
        return await self._queue.get(tenant, clean_name(announcement_id))

    async def page(self, tenant: str, cursor: str | None = None, limit: int = 50) -> Page[Announcement]:
        """Messages, the newest first. Raises InvalidInput("cursor_invalid" | "limit_invalid")."""
        return await self._queue.page(tenant, cursor, limit)

    async def stop(self, tenant: str, announcement_id: str | None = None) -> tuple[Announcement, ...]:
        """Silence one message, or all of a tenant (waiting ones too), in all zones; they become "cancelled".

        What plays is silent within 0.2 s. Returns the rows concerned as they now stand; a message that is over stays
        as it is. Raises NotFound("announcement_not_found").
        """
        if announcement_id is None:
            rows = await self._queue.unfinished(tenant)
        else:
            rows = (await self.get(tenant, announcement_id),)
        return tuple([await self._cancel_row(row) for row in rows])

    async def set_volume(self, volume: float, zone: str = "") -> None:
        """Change the volume of a zone, or of all (0..1), until the next start. Raises InvalidInput, NotFound."""
        require_volume(volume)
        for each in (self.zone(zone),) if zone else self.zones.values():
            await each.set_volume(volume)

    def state(self, language: str = "en") -> JsonDict:
        """The first zone at a glance: `{"state": "open", …, "playing": id or None, "waiting": n}`."""
        zone = next(iter(self.zones.values()))
        playing = zone.current.id if zone.current is not None else None
        return {**zone.outlet.state.as_json(language), "playing": playing, "waiting": zone.waiting}

    def zones_as_json(self, tenant: str, language: str = "en") -> list[JsonDict]:
        """Every zone as a tenant sees it: state, alarms, what plays and where it is."""
        return [self.zone_as_json(tenant, name, language) for name in self.zones]

    def zone_as_json(self, tenant: str, name: str, language: str = "en") -> JsonDict:
        """One zone. Raises NotFound("zone_not_found")."""
        return self.zone(name).as_json(tenant, self._local_time(), language)

    def events(self, tenant: str) -> AsyncIterator[Announcement | None]:
        """Every change of a tenant's messages from now on, as it happens; None: a zone changed."""
        return self._ledger.events(tenant)

    # ------------------------------------------------------------ conducting

    async def _conduct(self) -> None:
        elsewhere = {name: zone for name, zone in self.zones.items() if isinstance(zone, RemoteZone)}
        for row in await self._ledger.insist(lambda: self._queue.recover(tuple(elsewhere))):
            log.warning("announcement %s was interrupted: now %s", row.id, row.state)
        for row in await self._ledger.insist(self._queue.unfinished):
            remaining_s = _remaining_s(row)
            self._deadlines.setdefault(row.id, (asyncio.get_running_loop().time() + remaining_s, row.tenant))
            for delivery in row.zones:
                if delivery.handed is not Handed.NO and delivery.state not in OVER:
                    elsewhere[delivery.zone].resume(row)
        while True:
            self._wake.clear()
            try:
                pause_s = await self._look()
            except VoicedError as error:  # a full disk must not end the announcements
                log.warning("announcer: %s", error)
                pause_s = self._ledger.retry_s
            except Exception:
                log.exception("announcer")
                pause_s = self._ledger.retry_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()

    async def _look(self) -> float:
        """Do what there is to do now; how long nothing else can be due (s)."""
        local, loop = self._local_time(), asyncio.get_running_loop()
        await self._let_go(local)
        for zone in self.zones.values():
            zone.observe(local)
        ranks = {name: zone.least_rank(local) for name, zone in self.zones.items()}
        turns = await self._queue.turns(ranks, 1 + AHEAD)
        upcoming = _in_order(turns)
        self._rendering.begin(upcoming)
        for name, turn in turns.items():
            self.zones[name].take_up(turn)
        until = [deadline for deadline, _ in self._deadlines.values()] + self._rendering.next_attempts(upcoming)
        return min([max(0.05, min(until) - loop.time()) if until else LOOK_AT_CLOCK_S, LOOK_AT_CLOCK_S])

    async def _let_go(self, local: datetime) -> None:
        """Messages that grew too old are not said any more where they still wait."""
        now = asyncio.get_running_loop().time()
        for announcement_id in [each for each, (deadline, _) in self._deadlines.items() if deadline <= now]:
            try:
                row = await self._queue.get(self._deadlines[announcement_id][1], announcement_id)
            except NotFound:  # over, and tidied away: a clock that jumps makes anything old
                del self._deadlines[announcement_id]
                continue
            waiting = [delivery.zone for delivery in row.zones if delivery.state is State.QUEUED]
            reasons = {zone: self._why_unsaid(row, zone, local) for zone in waiting}
            if await self._queue.settle_waiting(row, reasons, State.EXPIRED):
                await self._end(row)
            self._deadlines.pop(announcement_id, None)
            if any(zone.says(row.id) for zone in self.zones.values()):  # it may yet come back into the queue
                self._deadlines[row.id] = (now + 1.0, row.tenant)

    def _why_unsaid(self, row: Announcement, zone: str, local: datetime) -> str:
        if zone not in self.zones:
            return "zone_gone"
        if reason := self.zones[zone].why_unsaid():
            return reason
        if row.rank < self.zones[zone].least_rank(local):
            return "quiet_hours"
        return row.reason or row.delivery(zone).reason or "too_old"

    async def _end(self, row: Announcement) -> Announcement:
        """Give up rendering a message that is over, and tell listeners how it ended."""
        self._rendering.forget(row.id)
        return await self._ledger.publish(row)

    async def _cancel_row(self, row: Announcement) -> Announcement:
        reasons = {delivery.zone: "stopped" for delivery in row.zones}
        if await self._queue.settle_waiting(row, reasons, State.CANCELLED):
            self._wake.set()
            await self._end(row)
        await asyncio.gather(*(zone.stop(row.id) for zone in self.zones.values()))
        return await self._queue.get(row.tenant, row.id)

    async def withdraw(self, tenant: str, ended: Mapping[str, frozenset[str]]) -> None:
        """Consents ended: what may not be said any more stops and fails, and its sound goes. See `consent_watch`."""
        voices = tuple(voice for voice, purposes in ended.items() if "announce" in purposes)
        for row in await self._queue.unfinished(tenant):
            if row.voice.partition("@")[0] in voices:
                try:
                    await self._permit(row)
                except VoicedError as error:
                    await self._refuse(row, error.code)
        await self._rendering.forget_voices(tenant, voices)

    async def _refuse(self, row: Announcement, code: str) -> None:
        self._rendering.forget(row.id)
        await self._ledger.fail(row, code)
        await asyncio.gather(*(zone.stop(row.id, code) for zone in self.zones.values()))
        self._wake.set()

    def _age_left_s(self, row: Announcement) -> float:
        """How long a message may still wait."""
        deadline, _ = self._deadlines.get(row.id, (None, ""))
        return _remaining_s(row) if deadline is None else deadline - asyncio.get_running_loop().time()

    def _music_of(self, zone: Zone, shelf: MusicShelf, levels: MusicLevels) -> ZoneMusic:
        return ZoneMusic(zone.outlet, shelf, levels, lambda: not zone.is_quiet(self._local_time()))

    async def play_music(
        self, tenant: str, zone: str, playlist: str, volume: float = 1.0, *, is_shuffled: bool = False
    ) -> JsonDict:
        """Play a playlist in a zone until it is stopped, also after a restart.

        Raises Unavailable("loudspeaker_disabled"), NotFound (zone_not_found, playlist_not_found), InvalidInput
        (volume_out_of_range, playlist_empty, music_zone_elsewhere).
        """
        if not self._settings.enabled:
            raise Unavailable("loudspeaker_disabled")
        require_volume(volume)
        return await self.music.play(tenant, self._zone_with_music(zone), playlist, volume, is_shuffled=is_shuffled)

    async def stop_music(self, zone: str = "", tenant: str = "") -> int:
        """No music of a tenant in a zone, or in any; in how many there was some. Raises NotFound("zone_not_found")."""
        zones = [self._zone_with_music(zone)] if zone else list(self.music.zones)
        return sum([await self.music.stop(name, tenant) for name in zones])

    def _zone_with_music(self, name: str) -> str:
        if isinstance(self.zone(name), RemoteZone):
            raise InvalidInput("music_zone_elsewhere", zone=name)
        return name

    def _note_outlet(self) -> None:
        self._ledger.tell(None)
        self._wake.set()

    def _local_time(self) -> datetime:
        return self._clock.now().astimezone(self.time_zone)

    # ------------------------------------------------------------ what may be said

    async def _permit(self, row: Announcement) -> None:
        if row.voice:
            await self._require_speakable(row.tenant, row)

    async def _require_speakable(self, tenant: str, what: NewAnnouncement | Announcement) -> None:
        """Everything that can be refused without making sound. A busy box is no reason: the queue waits for it."""
        await self._synthesis.identify(speech_request(tenant, what))


def _in_order(turns: dict[str, Turn]) -> tuple[Announcement, ...]:
    """The next messages of all zones, each once, in the order in which they are to be made ready."""
    rows = {row.id: row for turn in turns.values() for row in turn.rows}
    return tuple(sorted(rows.values(), key=lambda row: (-row.rank, row.place)))


def _remaining_s(row: Announcement) -> float:
    """What is left of a message's age after a restart. A clock that went backwards does not make it younger."""
    age_s = (datetime.fromisoformat(utc_now()) - datetime.fromisoformat(row.created_at)).total_seconds()
    return row.max_age_s - max(0.0, age_s)
