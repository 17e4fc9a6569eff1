"""The one way to make speech.

    admission → text → voice version → consent → (cache | clauses → engine worker → loudness) → marks → out

Every door, the announcer and the jobs of the daemon come through here, so that none can skip a step. Nothing of one
request is visible to another: the seed comes from the request itself, clauses are separate tasks, and the same request
gives the same audio whatever else the box is doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from weakref import WeakSet

import numpy as np

from appliance.admitted import Admitted
from appliance.audio.loudness import gain_between, integrated_lufs, limit
from appliance.audio.tags import Tags
from appliance.callers import require_voice
from appliance.contracts import Audio, AudioChunk, JsonDict, Pronunciation, Samples, SpeakTask, VoiceAssets
from appliance.errors import Busy, DeadlineExceeded, Forbidden, InvalidInput, NotFound, TooLarge, Unavailable
from appliance.marks.stage import MarksStage, Spoken, mark_id
from appliance.security.quotas import Quotas
from appliance.settings import SpeechSettings
from appliance.text.cleaning import clean_text, has_speech
from appliance.text.lexicon import check_symbols, count_word, find_overrides
from appliance.text.marked import MarkedClause, split_marked
from appliance.text.segments import CODES
from appliance.voices.consents import ConsentStore
from appliance.voices.lexicon import LexiconStore
from appliance.voices.records import Consent, VoiceVersion
from appliance.voices.registry import VoiceRegistry
from appliance.voices.rendition_cache import Outcome, RenditionCache
from appliance.voices.rendition_files import RenditionKey
from appliance.workers import SpeechTicket, WorkerPool

SPEEDS = (0.5, 2.0)
AHEAD = 1  # clauses begun before the one being delivered is through: the worker never waits for the client


@dataclass(frozen=True)
class SpeechRequest:
    """What somebody wants to hear."""

    tenant: str
    voice: str  # "anna" or "anna@3"
    text: str  # may have readings in it: 他姓[单](shan4)
    language: str = "auto"  # one of `segments.CODES`; the engine refuses what it does not speak
    speed: float = 1.0  # 0.5 .. 2.0; the duration is divided by it
    seed: int | None = None  # None: derived from the request, so that equal requests give equal audio
    version: int | None = None
    priority: int = 0  # higher goes first: announcements over listeners
    client: str = ""  # whoever shares one limit: an address or a token id
    purpose: str = "speak"  # checked against the speaker's consent
    continues: bool = False  # goes on with what the same listener just heard: the audible label is not said again


@dataclass(frozen=True)
class Speech:
    """An admitted request. `chunks` has to be iterated to its end or closed: its place in the queue hangs on it."""

    voice: VoiceVersion
    rendition: str  # digest of everything that decides the audio
    seed: int
    sample_rate: int  # Hz
    chunks: Admitted
    timings: dict[str, float] = field(default_factory=dict)  # ms per stage, summed; complete at the end
    tags: Tags = field(default_factory=dict)  # fields for the metadata of the file
    mark: str = ""  # the watermark, ten hex digits
    label_s: float = 0.0  # how much later than the first sample the words begin
    cache: Outcome = "miss"  # whether it had been made before, or is made together with another request's
    withdrawn: asyncio.Event = field(default_factory=asyncio.Event)  # the right to it ended; `chunks` raise then


@dataclass(frozen=True)
class Identified:
    """What a request would be, without making it."""

    voice: VoiceVersion
    rendition: str  # digest of everything that decides the audio
    seed: int
    label_s: float = 0.0  # of the audible label before the words


@dataclass(frozen=True)
class SpeechRooms:
    """What synthesis stands on."""

    registry: VoiceRegistry
    consents: ConsentStore
    lexicon: LexiconStore
    pool: WorkerPool
    marks: MarksStage
    quotas: Quotas
    cache: RenditionCache = field(default_factory=RenditionCache)


class Synthesis:
    """Admits requests and turns each into loudness-matched audio, clause by clause."""

    def __init__(self, rooms: SpeechRooms, settings: SpeechSettings, engine: str = "") -> None:
        """`engine` is the one whose starter voices come first when nobody names a voice."""
        self._engine = engine
        self._registry = rooms.registry
        self._consents = rooms.consents
        self._lexicon = rooms.lexicon
        self._pool = rooms.pool
        self._marks = rooms.marks
        self.cache = rooms.cache
        self._quotas = rooms.quotas
        self._settings = settings
        self._active: Counter[str] = Counter()
        self._under_way: WeakSet[Admitted] = WeakSet()
        self._withdrawals = 0  # how often consents ended
        self._seconds_per_request = 1.0  # running mean; tells refused clients when to come back

    @property
    def active(self) -> int:
        """Requests admitted and not yet through."""
        return self._active.total()

    async def default_voice(self, tenant: str, purpose: str = "speak") -> str:
        """The voice that speaks when nobody named one: the one of the settings, else the own voice promoted last that
        may be used for `purpose`, else the first starter of the default engine.

        Raises Unavailable("no_voice"). The voice of the settings is not looked up: asking for it says what is wrong.
        """
        if self._settings.default_voice:
            return self._settings.default_voice
        for voice in await self._registry.speaking_voices(tenant, self._engine):
            with contextlib.suppress(Forbidden, NotFound):
                require_voice(voice.id)
                await self._consents.require(tenant, voice.id, purpose)
                return voice.id
        raise Unavailable("no_voice")

    async def prepare(self, tenant: str) -> None:
        """Have the default voice made ready, so that its first sentence is as quick as the next. Raises like `open`."""
        request = SpeechRequest(tenant, await self.default_voice(tenant), "")
        voice = await self._registry.resolve(tenant, request.voice)
        await self._require_consent(request, voice)
        await self._pool.prepare(await self._registry.assets(voice))

    async def open(self, request: SpeechRequest) -> Speech:
        """Admit a request; audio is made once `chunks` is iterated.

        Raises InvalidInput (text_empty, text_not_speakable, language_unknown, speed_out_of_range,
        lexicon_word_invalid, reading_invalid), TooLarge (text_too_long), NotFound (voice_not_found,
        version_not_found), Forbidden (consent_…), Busy (box_busy, client_busy) and Corrupt before anything is
        computed; `chunks` raises what the engine raises.
        """
        withdrawals, plan = self._withdrawals, await self._plan(request)
        key = RenditionKey(request.tenant, plan.voice.voice, plan.rendition, plan.voice.owner)
        found = await self.cache.find(key)
        self._require_room(request.client)
        self._quotas.spend_characters(request.tenant, len(plan.text))  # not for what is turned away
        self._active[request.client] += 1
        timings: dict[str, float] = {}
        served = self.cache.serve(key, found, request.priority, lambda: self._deliver(plan, timings))
        # each answer has marks of its own, so they come behind the cache
        marks = self._marks.prepare(plan.spoken)
        admitted = self._hold(request, plan.voice.voice, marks.apply(served.chunks))
        if withdrawals != self._withdrawals:  # while this was looked up
            await self._recheck(admitted)
        return Speech(
            voice=plan.voice,
            rendition=plan.rendition,
            seed=plan.seed,
            sample_rate=plan.sample_rate,
            chunks=admitted,
            withdrawn=admitted.withdrawn,
            timings=timings,
            tags=marks.tags,
            mark=mark_id(marks.payload),
            label_s=marks.label_s,
            cache=served.outcome,
        )

    async def identify(self, request: SpeechRequest) -> Identified:
        """What `open` would make, without a place in the queue. Raises like `open`, but never Busy."""
        plan = await self._plan(request)
        return Identified(plan.voice, plan.rendition, plan.seed, self._marks.prepare(plan.spoken).label_s)

    async def _plan(self, request: SpeechRequest) -> _Plan:
        text = self._checked_text(request)
        voice = await self._registry.resolve(request.tenant, request.voice, request.version)
        require_voice(voice.voice)
        consent = await self._require_consent(request, voice)
        assets = await self._registry.assets(voice)
        lexicon = await self._lexicon.find(request.tenant, find_overrides(text)[0])
        recipe = self._recipe(request, text, assets, lexicon)
        seed = _digest_number(recipe) if request.seed is None else request.seed
        return _Plan(
            request=request,
            text=text,
            voice=voice,
            lexicon=lexicon,
            assets=assets,
            seed=seed,
            rendition=hashlib.sha256(_canonical({**recipe, "seed": seed})).hexdigest(),
            allowed_by=consent.id if consent else "",
        )

    async def render(self, request: SpeechRequest) -> tuple[Speech, Audio]:
        """The whole answer at once. Raises like `open` and like its chunks."""
        speech = await self.open(request)
        parts = [chunk.samples async for chunk in speech.chunks]
        return speech, Audio(np.concatenate(parts) if parts else np.zeros(0, np.float32), speech.sample_rate)

    def _recipe(
        self, request: SpeechRequest, text: str, assets: VoiceAssets, lexicon: tuple[Pronunciation, ...]
    ) -> JsonDict:
        """Everything that decides the audio but the seed."""
        recipe: JsonDict = {
            "voice": assets.key,
            "text": text,
            "language": request.language,
            "speed": request.speed,
            "loudness": [self._settings.target_lufs, self._settings.peak_dbfs],
        }
        if lexicon:  # without one, answers are what they were before there were lexica
            recipe["lexicon"] = [[entry.language, entry.word, entry.reading] for entry in lexicon]
        return recipe

    async def forget(self, tenant: str, voice: str | None = None) -> None:
        """Nothing that a voice (or any of the tenant) has said is kept: its consent ended, or the voice itself."""
        self._pool.forget_voices()
        await self.cache.forget(tenant, voice)

    async def withdraw(self, tenant: str, ended: Mapping[str, frozenset[str]]) -> None:
        """Consents ended (purposes by voice): end the speech that is not allowed any more, keep nothing they said."""
        self._withdrawals += 1
        for admitted in [each for each in self._under_way if each.about[0] == tenant and each.about[1] in ended]:
            await self._recheck(admitted)
        for voice in ended:
            await self.forget(tenant, voice)

    async def _recheck(self, admitted: Admitted) -> None:
        try:
            await self._consents.require(*admitted.about)
        except Forbidden as error:
            admitted.withdraw(error)

    async def _require_consent(self, request: SpeechRequest, voice: VoiceVersion) -> Consent | None:
        try:
            return await self._consents.require(request.tenant, voice.voice, request.purpose)
        except Forbidden:  # also when it ended by itself, at its date
            await self.forget(request.tenant, voice.voice)
            raise

    def _checked_text(self, request: SpeechRequest) -> str:
        if len(request.text) > self._settings.max_characters:
            raise TooLarge("text_too_long", characters=len(request.text), limit=self._settings.max_characters)
        if request.language not in CODES:
            raise InvalidInput("language_unknown", language=request.language, known=", ".join(CODES))
        if not SPEEDS[0] <= request.speed <= SPEEDS[1]:  # NaN fails this too
            raise InvalidInput("speed_out_of_range", speed=request.speed, lowest=SPEEDS[0], highest=SPEEDS[1])
        text = clean_text(request.text)
        if not text:
            raise InvalidInput("text_empty")
        plain, overrides = find_overrides(text)
        if not has_speech(plain):
            raise InvalidInput("text_not_speakable")
        for override in overrides:
            check_symbols(override.reading)
        return text

    def _require_room(self, client: str) -> None:
        if self._active[client] >= self._settings.max_waiting_per_client:
            raise Busy("client_busy", scope="client", active=self._active[client], retry_after_s=self._retry_after_s())
        if self.active >= self._settings.max_waiting:
            raise Busy("box_busy", scope="box", active=self.active, retry_after_s=self._retry_after_s())

    def _release(self, client: str, took_s: float) -> None:
        self._active[client] -= 1
        if self._active[client] <= 0:
            del self._active[client]
        self._seconds_per_request += 0.1 * (took_s - self._seconds_per_request)

    def _hold(self, request: SpeechRequest, voice: str, chunks: AsyncIterator[Audio]) -> Admitted:
        about = (request.tenant, voice, request.purpose)
        admitted = Admitted(about, chunks, lambda took_s: self._release(request.client, took_s))
        self._under_way.add(admitted)
        return admitted

    def _retry_after_s(self) -> int:
        return max(1, min(60, round(self._seconds_per_request)))

    async def _deliver(self, plan: _Plan, timings: dict[str, float]) -> AsyncGenerator[Audio, None]:
        """Clause after clause, with the next one already begun, at target loudness."""
        clauses = plan.clauses
        tickets: list[SpeechTicket] = []
        loudness = _Loudness(plan.assets.settings, self._settings)
        ends_at = asyncio.get_running_loop().time() + self._settings.deadline_s
        try:
            for index in range(len(clauses)):
                if index:  # a consent that ended meanwhile ends a long speech too
                    await self._require_consent(plan.request, plan.voice)
                while len(tickets) < min(len(clauses), index + 1 + AHEAD):
                    task = plan.task(len(tickets))
                    before = tickets[-1] if tickets else None
                    tickets.append(await self._pool.begin(task, priority=plan.request.priority, after=before))
                async for chunk in self._before(ends_at, tickets[index].chunks()):
                    for stage, milliseconds in chunk.timings.items():
                        timings[stage] = timings.get(stage, 0.0) + milliseconds
                    samples = await asyncio.to_thread(loudness.level, chunk)
                    yield Audio(samples, chunk.audio.sample_rate)
        finally:
            for ticket in tickets:
                await ticket.cancel()

    async def _before(self, ends_at: float, chunks: AsyncIterator[AudioChunk]) -> AsyncIterator[AudioChunk]:
        """The same chunks; DeadlineExceeded("speech_deadline") when one is not there at `ends_at` (loop time)."""
        while True:
            try:
                async with asyncio.timeout_at(ends_at):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise DeadlineExceeded("speech_deadline", seconds=self._settings.deadline_s) from error
            yield chunk


@dataclass(frozen=True)
class _Plan:
    """A request resolved to what an engine needs."""

    request: SpeechRequest
    text: str  # cleaned; may have readings in it
    voice: VoiceVersion
    lexicon: tuple[Pronunciation, ...]
    assets: VoiceAssets
    seed: int
    rendition: str
    allowed_by: str  # id of the consent; empty for a starter voice

    @property
    def sample_rate(self) -> int:
        return int(self.voice.settings.get("sample_rate", 24_000))

    @property
    def spoken(self) -> Spoken:
        """As the marks need it."""
        request = self.request
        return Spoken(
            self.voice, self.rendition, self.text, self.sample_rate, request.client, self.allowed_by, request.continues
        )

    @cached_property
    def clauses(self) -> list[MarkedClause]:
        return split_marked(self.text)

    def task(self, index: int) -> SpeakTask:
        text, readings = self.clauses[index]
        seed = _digest_number([self.seed, index])
        lexicon = (*readings, *(entry for entry in self.lexicon if count_word(text, entry.word)))
        return SpeakTask(text, self.assets, self.request.language, self.request.speed, seed, lexicon)


class _Loudness:
    """One constant gain per request, so that clauses keep their relation.

    It comes from the loudness measured for the voice version, else from what the engine knows of the voice, else from
    the first chunk.
    """

    def __init__(self, voice_settings: JsonDict, settings: SpeechSettings) -> None:
        self._settings = settings
        self._lufs: float | None = voice_settings.get("lufs")

    def level(self, chunk: AudioChunk) -> Samples:
        audio = chunk.audio
        if self._lufs is None:
            self._lufs = integrated_lufs(audio.samples, audio.sample_rate) if chunk.lufs is None else chunk.lufs
        louder = audio.samples * np.float32(gain_between(self._lufs, self._settings.target_lufs))
        return limit(louder, audio.sample_rate, self._settings.peak_dbfs)


def _canonical(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _digest_number(value: object) -> int:
    """A 31-bit number that depends on all of `value` and on nothing else."""
    return int.from_bytes(hashlib.sha256(_canonical(value)).digest()[:4], "big") >> 1
