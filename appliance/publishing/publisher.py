"""Publishing: render every line that changed, bring all of them to all channels, then let them be heard at once.

    plan → render what is missing → prepare every channel → commit every channel → move the script's pointer

Until the first commit nothing has changed anywhere, so any refusal ends the publication there. A commit that fails
takes the others back. A daemon that dies goes on at the next start: renditions are known by their digest, preparing
again brings nothing twice, and a delivery that had begun to be committed is committed to the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from appliance.contracts import DeliveredLine, Delivery, JsonDict, StagedDelivery
from appliance.errors import Conflict, NotFound, StorageFull, Unavailable, VoicedError, error_record
from appliance.publishing.channels import ChannelStore, OpenChannel
from appliance.publishing.lines import spoken_lines
from appliance.publishing.publications import NewPublication, PublicationStore
from appliance.publishing.records import (
    PUBLISH,
    RENDERING,
    ROLLBACK,
    Plan,
    PlannedLine,
    Publication,
    PublishedLine,
    SpokenLine,
)
from appliance.publishing.rendering import LineRenderer, filing_id
from appliance.publishing.scripts import ScriptStore
from appliance.synthesis import SpeechRequest
from appliance.voices.consents import ConsentStore
from appliance.voices.records import Rendition
from appliance.voices.renditions import RenditionStore

log = logging.getLogger(__name__)

CLIENT = "publisher"  # whose place in the synthesis queue lines take
PURPOSE = "announce"  # checked against the speaker's consent, beside what the channels ask for
AT_ONCE = 2  # lines under way: the worker never waits for a file to be written
RETRY_S = 2.0
LOOK_AGAIN_S = 1.0
MOST_REFUSED = 100  # of the lines that a plan names


@dataclass(frozen=True)
class PublishRooms:
    """What publishing stands on."""

    scripts: ScriptStore
    publications: PublicationStore
    renditions: RenditionStore
    channels: ChannelStore
    consents: ConsentStore
    renderer: LineRenderer


class Publisher:
    """The publications of the box. `start` and `stop` frame its life; everything else may be called from any task."""

    def __init__(self, rooms: PublishRooms) -> None:
        self._rooms = rooms
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}  # (tenant, script)
        self._changed = asyncio.Event()  # of the next change; replaced by it

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Take up what a previous daemon left."""
        for publication in await self._rooms.publications.unfinished():
            self._begin(publication)

    async def stop(self) -> None:
        """Put down what is under way; it goes on after the next start. Idempotent."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ for doors

    async def plan(self, tenant: str, script: str, revision: int | None = None) -> Plan:
        """What publishing would do, without doing it. Raises NotFound, TooLarge."""
        source = await self._rooms.scripts.revision(tenant, script, revision)
        channels = await self._rooms.channels.of_script(tenant, script)
        purposes = {channel.purpose for channel in channels if channel.purpose} - {PURPOSE}
        lines: list[PlannedLine] = []
        refused: list[JsonDict] = []
        default = ""
        for spoken in spoken_lines(source):
            try:
                if not spoken.voice:
                    default = default or await self._rooms.renderer.synthesis.default_voice(tenant, PURPOSE)
                lines.append(await self._planned(tenant, spoken, spoken.voice or default))
                await self._require(tenant, lines[-1], purposes)
            except VoicedError as error:
                refused.append({"line": spoken.name, **error_record(error)})
        names = tuple(channel.id for channel in channels)
        return Plan(script, source.number, tuple(lines), tuple(refused[:MOST_REFUSED]), names)

    async def publish(self, tenant: str, script: str, revision: int | None = None, author: str = "") -> Publication:
        """Start to publish a revision, the newest without a number.

        Raises Conflict("publish_refused") naming the lines that consent, a missing voice or their text forbid (nothing
        has changed then), Conflict("script_empty", "publication_running"), NotFound.
        """
        plan = await self.plan(tenant, script, revision)
        if plan.refused:
            names = ", ".join(str(row["line"]) for row in plan.refused[:20])
            raise Conflict("publish_refused", script=script, lines=len(plan.refused), names=names)
        if not plan.lines:
            raise Conflict("script_empty", script=script)
        lines = tuple(_published(line) for line in plan.lines)
        new = NewPublication(script, PUBLISH, plan.revision, lines, len(plan.missing), plan.channels, author)
        publication = await self._rooms.publications.begin(tenant, new)
        self._begin(publication)
        return publication

    async def rollback(self, tenant: str, script: str, to: int | None = None, author: str = "") -> Publication:
        """Let the channels carry an older publication again (the one before the present one); nothing is rendered.

        Raises NotFound("publication_not_found"), Conflict("publication_running").
        """
        present = (await self._rooms.scripts.get(tenant, script)).published
        if to is None:
            carried = await self._carried(tenant, script, present)
            old = await self._rooms.publications.last_published(tenant, script, carried)
        else:
            old = await self._rooms.publications.get(tenant, script, to)
            if old.finished_at is None or old.error is not None:
                raise NotFound("publication_not_found", script=script, publication=to)
        channels = tuple(channel.id for channel in await self._rooms.channels.of_script(tenant, script))
        new = NewPublication(script, ROLLBACK, old.revision, old.lines, 0, channels, author)
        publication = await self._rooms.publications.begin(tenant, new)
        self._begin(publication)
        return publication

    async def adopt(self, tenant: str, new: NewPublication) -> Publication:
        """Let the channels of this box, its peers excepted, carry what another box rendered. Raises Conflict.

        The newest publication is it, if it has the same author and lines and did not fail: somebody asks again whose
        first answer was lost.
        """
        newest = await self._rooms.publications.newest(tenant, new.script)
        if newest is not None and newest.error is None and (newest.author, newest.lines) == (new.author, new.lines):
            return newest
        rows = await self._rooms.channels.of_script(tenant, new.script)
        own = replace(new, channels=tuple(row.id for row in rows if row.kind != "peer"))
        publication = await self._rooms.publications.begin(tenant, own)
        self._begin(publication)
        return publication

    async def events(self, tenant: str, script: str, number: int) -> AsyncIterator[Publication]:
        """The publication now and after every change, the last time when it has ended. Raises NotFound."""
        last: Publication | None = None
        while True:
            changed = self._changed
            current = await self._rooms.publications.get(tenant, script, number)
            if current != last:
                yield current
                last = current
            if current.has_ended:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_AGAIN_S)

    async def finished(self, publication: Publication) -> Publication:
        """Wait for the end of a publication."""
        async for current in self.events(publication.tenant, publication.script, publication.number):
            publication = current
        return publication

    async def line(self, tenant: str, script: str, name: str, values: Mapping[str, str]) -> PublishedLine:
        """The line that the script's channels carry now: by its full name, or by the line's with values of variables.

        Raises NotFound (script_not_found, publication_not_found, line_not_found).
        """
        present = (await self._rooms.scripts.get(tenant, script)).published
        if present is None:
            raise NotFound("publication_not_found", script=script, publication=0)
        publication = await self._rooms.publications.get(tenant, script, present)
        for line in publication.lines:
            is_meant = line.name == name or (line.line == name and values.items() <= line.values.items())
            if is_meant and (not values or values.items() <= line.values.items()):
                return line
        raise NotFound("line_not_found", script=script, line=name[:80])

    async def delivery(self, publication: Publication) -> Delivery:
        """A publication with its files. Raises NotFound("rendition_not_found")."""
        script = await self._rooms.scripts.get(publication.tenant, publication.script)
        lines = [await self._delivered(line, await self._rendition(publication, line)) for line in publication.lines]
        number, revision = publication.number, publication.revision
        return Delivery(publication.tenant, script.id, script.title, number, revision, tuple(lines))

    # ------------------------------------------------------------ work

    async def _carried(self, tenant: str, script: str, present: int | None) -> int:
        """The publication whose lines are heard now: a rollback's are those of an older one."""
        if present is None:
            raise NotFound("publication_not_found", script=script, publication=0)
        now = await self._rooms.publications.get(tenant, script, present)
        while now.kind == ROLLBACK:
            earlier = await self._rooms.publications.last_published(tenant, script, now.number)
            while earlier.lines != now.lines:
                earlier = await self._rooms.publications.last_published(tenant, script, earlier.number)
            now = earlier
        return now.number

    async def _planned(self, tenant: str, spoken: SpokenLine, voice: str) -> PlannedLine:
        identified = await self._rooms.renderer.synthesis.identify(_request(tenant, spoken, voice))
        filed = filing_id(identified.rendition, identified.label_s)
        is_ready = await self._rooms.renderer.find(tenant, filed) is not None
        version = f"{identified.voice.voice}@{identified.voice.number}"
        return PlannedLine(spoken, filed, version, is_ready)

    async def _require(self, tenant: str, line: PlannedLine, purposes: set[str]) -> None:
        for purpose in sorted(purposes):
            await self._rooms.consents.require(tenant, line.voice_version.rpartition("@")[0], purpose)

    def _begin(self, publication: Publication) -> None:
        key = (publication.tenant, publication.script)
        task = asyncio.create_task(self._run(publication), name=f"publish {publication.script}")
        self._running[key] = task
        task.add_done_callback(lambda task: self._let_go(key, task))

    def _let_go(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:  # else the next one of the script has begun: this one had ended for the row
            del self._running[key]

    async def _run(self, publication: Publication) -> None:
        store = self._rooms.publications
        try:
            if publication.state == RENDERING:
                await self._render(publication)
                await store.deliver(publication)
                self._tell()
            await self._deliver(publication)
        except VoicedError as error:
            log.warning("publication %s/%d failed: %s", publication.script, publication.number, error)
            await self._fail(publication, error_record(error))
        except Exception as error:
            log.exception("publication %s/%d failed", publication.script, publication.number)
            await self._fail(publication, error_record(error))
        self._tell()

    async def _fail(self, publication: Publication, error: JsonDict) -> None:
        while True:
            try:
                await self._rooms.publications.fail(publication, error)
                return
            except VoicedError as problem:  # the disk is full: the row says so once it can be written
                log.warning("the end of publication %s is not written yet: %s", publication.script, problem)
                await asyncio.sleep(RETRY_S)

    async def _render(self, publication: Publication) -> None:
        """Every sound that is not there yet, a few at a time. Raises what the first line that failed raised."""
        wanted = {line.rendition: line for line in publication.lines}
        find = self._rooms.renderer.find
        missing = [line for line in wanted.values() if await find(publication.tenant, line.rendition) is None]
        rendered = publication.to_render - len(missing)
        places = asyncio.Semaphore(AT_ONCE)

        async def one(line: PublishedLine) -> None:
            nonlocal rendered
            async with places:
                await self._render_line(publication, line)
            rendered += 1
            await self._rooms.publications.count(publication, rendered)
            self._tell()

        try:
            async with asyncio.TaskGroup() as group:
                for line in missing:
                    group.create_task(one(line))
        except* VoicedError as errors:
            raise errors.exceptions[0] from None

    async def _render_line(self, publication: Publication, line: PublishedLine) -> None:
        """Make one line. Raises Conflict("line_refused"), and ("line_changed") when it is not what was planned."""
        try:
            made = await self._rooms.renderer.make(_request(publication.tenant, line, line.voice_version))
        except StorageFull:
            raise
        except VoicedError as error:
            raise Conflict("line_refused", line=line.name, reason=error.code) from error
        if made.id != line.rendition:
            raise Conflict("line_changed", line=line.name)

    async def _rendition(self, publication: Publication, line: PublishedLine) -> Rendition:
        return await self._rooms.renditions.get_present(publication.tenant, line.rendition)

    async def _delivered(self, line: PublishedLine, rendition: Rendition) -> DeliveredLine:
        path = await self._rooms.renditions.path(rendition)
        return DeliveredLine(
            name=line.name,
            line=line.line,
            text=line.text,
            language=line.language,
            voice_version=line.voice_version,
            rendition=line.rendition,
            sha256=rendition.sha256,
            path=path,
            duration_s=rendition.duration_s,
            values=line.values,
        )

    async def _deliver(self, publication: Publication) -> None:
        """To all channels or to none."""
        delivery = await self.delivery(publication)
        staged: list[StagedDelivery] = []
        try:
            for channel in await self._rooms.channels.open(publication.tenant, publication.channels):
                staged.append(await self._prepare(channel, delivery))
            for stage in staged:
                await asyncio.to_thread(stage.commit)
            await self._rooms.publications.finish(publication)
        except asyncio.CancelledError:
            raise  # the daemon stops: the delivery is taken up again and committed to the end
        except BaseException:
            await self._take_back(staged)
            raise

    async def _prepare(self, channel: OpenChannel, delivery: Delivery) -> StagedDelivery:
        try:
            return await asyncio.to_thread(channel.prepare, delivery)
        except VoicedError as error:
            raise Unavailable("channel_failed", channel=channel.id, reason=error.message()) from error

    async def _take_back(self, staged: Sequence[StagedDelivery]) -> None:
        for stage in reversed(staged):
            try:
                await asyncio.to_thread(stage.revert)
            except VoicedError as error:
                log.error("a channel could not be taken back: %s", error)
            except Exception:  # channels may be plugins
                log.exception("a channel could not be taken back")

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _request(tenant: str, line: SpokenLine | PublishedLine, voice: str) -> SpeechRequest:
    return SpeechRequest(tenant, voice, line.text, line.language, speed=line.speed, client=CLIENT, purpose=PURPOSE)


def _published(line: PlannedLine) -> PublishedLine:
    spoken = line.spoken
    return PublishedLine(
        name=spoken.name,
        line=spoken.line,
        text=spoken.text,
        language=spoken.language,
        speed=spoken.speed,
        voice_version=line.voice_version,
        rendition=line.rendition,
        values=spoken.values,
    )
