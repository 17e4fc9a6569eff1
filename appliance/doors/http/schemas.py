"""The records that cross the HTTP doors: what is accepted (strict) and what is answered (for the OpenAPI document)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VOICE_ID = r"^[a-z0-9][a-z0-9_-]{0,62}$"
SPEC_LIMIT = 80  # characters of "anna@3"; the registry says what is valid
MAX_TEXT = 100_000  # the outer bound; `speech.max_characters` decides
MAX_SEED = 2**32 - 1
Language = Literal["auto", "auto_yue", "en", "zh", "ja", "ko", "yue", "all_zh", "all_ja", "all_ko", "all_yue"]
SpokenLanguage = Literal["auto", "zh", "en", "ja"]  # of recordings: what the box can write down and examine
SpeechFormat = Literal["wav", "flac", "mp3", "opus", "pcm"]


class Asked(BaseModel):
    """What a client sends: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Told(BaseModel):
    """What a client is told; later versions may add fields."""

    model_config = ConfigDict(extra="allow")


class PageQuery(Asked):
    cursor: str | None = Field(None, max_length=400, description="`next` of the page before")
    limit: int = Field(50, ge=1, le=500)


# ---------------------------------------------------------------- speech

# Names of api_v2 for things voiced has: they are read as ours. The rest of its names tune the sampler of one engine;
# they are accepted so that existing callers work, and have no effect.
API_V2_MEANING = {"text_lang": "lang", "media_type": "format", "speed_factor": "speed", "streaming_mode": "stream"}
API_V2_FORMATS = {"raw": "pcm", "ogg": "opus"}
API_V2_WITHOUT_EFFECT = frozenset(
    {
        "aux_ref_audio_paths",
        "prompt_text",
        "prompt_lang",
        "top_k",
        "top_p",
        "temperature",
        "text_split_method",
        "batch_size",
        "batch_threshold",
        "split_bucket",
        "fragment_interval",
        "parallel_infer",
        "repetition_penalty",
        "sample_steps",
        "super_sampling",
        "return_fragment",
        "overlap_length",
        "min_chunk_length",
        "fixed_length_chunk",
    }
)


class MannerAsked(Asked):
    """Who speaks, and how."""

    speaker: str = Field(min_length=1, max_length=SPEC_LIMIT, description="voice id, or `anna@3` for one version")
    lang: Language = "auto"
    speed: float = Field(1.0, ge=0.5, le=2.0, allow_inf_nan=False)
    version: int | None = Field(None, ge=1, description="a version of the voice; default: the one its alias names")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="same seed, same audio")
    priority: int = Field(0, ge=0, le=9, description="higher is served first")
    provenance: bool = Field(False, description="sign the file (C2PA); wav, mp3 and flac, whole answers only")


class SpeechAsked(MannerAsked):
    """`/tts`: speak `text` in the voice `speaker`. Field names of api_v2 are understood as well."""

    text: str = Field(max_length=MAX_TEXT)
    format: SpeechFormat = "wav"
    stream: bool | Literal["sse"] = Field(False, description="send sound as it is made; `sse`: as server-sent events")

    @model_validator(mode="before")
    @classmethod
    def _read_api_v2(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        asked = {name: value for name, value in values.items() if name not in API_V2_WITHOUT_EFFECT}
        for theirs, ours in API_V2_MEANING.items():
            if theirs in asked:
                asked.setdefault(ours, asked[theirs])
                del asked[theirs]
        reference = asked.pop("ref_audio_path", None)  # a registered voice id; never opened as a path
        if "speaker" not in asked and reference is not None:
            asked["speaker"] = reference
        if asked.get("seed") in {-1, "-1", ""}:
            asked["seed"] = None
        if asked.get("stream") in {2, 3, "2", "3"}:  # api_v2 grades how it streams
            asked["stream"] = True
        for name in ("format", "lang"):
            if isinstance(asked.get(name), str):
                asked[name] = asked[name].lower()
        asked |= {"format": API_V2_FORMATS[asked["format"]]} if asked.get("format") in API_V2_FORMATS else {}
        return asked


UtteranceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class StartFrame(MannerAsked):
    """`/v1/stream`: text that comes now belongs to a new utterance."""

    id: UtteranceId | None = None


class TextFrame(Asked):
    """More text of the utterance that was started; however it is cut."""

    text: str = Field(max_length=MAX_TEXT)


class FlushFrame(Asked):
    """Speak what came so far, whole sentence or not."""


class EndFrame(Asked):
    """The utterance is complete."""


class CancelFrame(Asked):
    """Silence for one utterance, or for all."""

    id: UtteranceId | None = None


class OpenAiVoice(BaseModel):
    model_config = ConfigDict(extra="ignore")
    id: str = Field(min_length=1, max_length=SPEC_LIMIT)


class OpenAiSpeechAsked(BaseModel):
    """The body of OpenAI's `audio/speech`. Fields that later clients add are ignored: it is not our format."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(min_length=1, max_length=100)
    input: str = Field(max_length=MAX_TEXT)
    voice: str | OpenAiVoice | None = Field(None, description="absent: the default voice of the box")
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(1.0, ge=0.5, le=2.0, allow_inf_nan=False)
    stream_format: Literal["audio", "sse"] | None = None
    instructions: str | None = Field(None, max_length=10_000, description="accepted, without effect")
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="an extension of voiced")
    language: Language = Field("auto", description="an extension of voiced")


class ModelTold(Told):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsTold(Told):
    object: Literal["list"]
    data: list[ModelTold]


class SpeakersTold(Told):
    voices: list[dict[str, str]]


# ---------------------------------------------------------------- voices


class VoiceTold(Told):
    id: str
    title: str
    description: str
    gender: str
    languages: list[str]
    created_at: str
    current: int | None = Field(description="the version that `speaker=id` means now; null: none yet")
    latest: int | None = Field(description="the highest version number there is")


class VersionTold(Told):
    voice: str
    number: int
    engine: str
    files: dict[str, str]
    settings: dict[str, Any]
    metrics: dict[str, Any]
    lineage: dict[str, Any]
    created_at: str


class PageTold(Told):
    next: str | None


class VoicesTold(PageTold):
    items: list[VoiceTold]


class VersionsTold(PageTold):
    items: list[VersionTold]


class VoiceAsked(Asked):
    """A voice from imported weights; the parts of a multipart body beside the reference clip."""

    id: str = Field(pattern=VOICE_ID, description="the voice to make, or to give a new version")
    weights: str = Field(min_length=1, max_length=1_000, description="ids or names of one s1 and one s2, with a comma")
    engine: str = Field("gpt_sovits", max_length=60)
    transcript: str = Field("", max_length=2_000, description="what the clip says; without it the box listens")
    language: Literal["auto", "zh", "en", "ja", "ko", "yue"] = Field("auto", description="of the clip")
    title: str = Field("", max_length=200)
    speaker: str = Field("", max_length=100)
    filename: str = Field("", max_length=200, description="of the clip; kept nowhere")


class PromoteAsked(Asked):
    """Move the alias of a voice to one of its versions."""

    version: int = Field(ge=1)
    reason: str = Field("", max_length=400, description="for the changelog")


# ---------------------------------------------------------------- imported models


class WeightsQuery(Asked):
    """Fields beside the files; in a multipart body they may be parts instead."""

    licence: str = Field("", max_length=100, description="SPDX name, e.g. MIT")


class WeightTold(Told):
    id: str
    name: str
    kind: Literal["s1", "s2", "s2d", "hubert", "bert", "sv"]
    version: str
    files: dict[str, str]
    source_name: str
    source_sha256: str
    source_bytes: int
    licence: str
    report: dict[str, Any]
    created_at: str


class WeightsTold(PageTold):
    items: list[WeightTold]


# ---------------------------------------------------------------- lexicon


class LexiconQuery(PageQuery):
    language: Literal["", "zh", "en", "ja", "ko", "yue"] = Field("", description="only words of this language")


class WordQuery(Asked):
    language: str = Field(min_length=1, max_length=20)
    word: str = Field(min_length=1, max_length=200)


class ReadingAsked(Asked):
    """How a word is read in a language: from now on, in every text of this tenant."""

    language: str = Field(min_length=1, max_length=20, description="zh, en, ja, ko or yue: of the text around the word")
    word: str = Field(min_length=1, max_length=200, description="as it is written; capital letters do not matter")
    reading: str = Field(
        min_length=1,
        max_length=400,
        description="pinyin with tone digits (zh), Jyutping (yue), a word that sounds like it (others), or /symbols/",
    )


class ReadingTold(Told):
    language: str
    word: str
    reading: str
    created_at: str


class LexiconTold(PageTold):
    items: list[ReadingTold]


# ---------------------------------------------------------------- recordings and consents


class RecordingQuery(Asked):
    """Fields beside the bytes; in a multipart body they may be parts instead."""

    filename: str = Field("", max_length=200)
    transcript: str = Field("", max_length=20_000)
    speaker: str = Field("", max_length=100)
    language: Literal["", "auto", "zh", "en", "ja"] = ""
    label: bool = Field(True, description="without a transcript: let the box write down what is said")
    keep: bool = Field(False, description="file a refused recording too, with accepted=false")

    @field_validator("language")
    @classmethod
    def _auto_is_unset(cls, value: str) -> str:
        return "" if value == "auto" else value


class RecordingTold(Told):
    id: str
    sha256: str
    filename: str
    duration_s: float
    sample_rate: int
    accepted: bool
    report: dict[str, Any]
    transcript: str
    language: str
    transcript_source: str
    speaker: str
    created_at: str


class RecordingsTold(PageTold):
    items: list[RecordingTold]


class TranscriptAsked(Asked):
    transcript: str = Field(min_length=1, max_length=20_000)
    language: SpokenLanguage = "auto"


class VerdictTold(Told):
    accepted: bool
    reasons: list[dict[str, Any]]
    warnings: list[dict[str, Any]]
    measures: dict[str, Any]


class ConsentAsked(Asked):
    """What a speaker agreed to."""

    speaker: str = Field(min_length=1, max_length=100)
    voice: str = Field("", max_length=63, description="the voice it is for; empty: every voice of the speaker")
    purposes: list[str] = Field(min_length=1, max_length=8, description="clone, speak, announce, publish, share")
    statement: str = Field("", max_length=4_000, description="the words that were agreed to")
    evidence: str = Field("", max_length=100, description="id of the recording in which the speaker says so")
    expires_at: str | None = Field(None, max_length=40, description="ISO 8601, UTC")


class ConsentTold(Told):
    id: str
    speaker: str
    voice: str
    purposes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    strength: str


class ConsentsTold(PageTold):
    items: list[ConsentTold]


# ---------------------------------------------------------------- jobs


class ExportAsked(Asked):
    """Take a voice away."""

    format: Literal["gpt-sovits"]
    version: int | None = Field(None, ge=1, description="default: the one that speaks")


class JobAsked(Asked):
    """Make a voice from recordings."""

    kind: Literal["clone"]
    voice: str = Field(pattern=VOICE_ID, description="the voice to make, or to give a new version")
    recordings: list[str] = Field(min_length=1, max_length=1_000, description="ids of accepted recordings")
    language: SpokenLanguage = "auto"
    title: str = Field("", max_length=200)
    engine: str = Field("", max_length=60, description="default: the box's engine")
    steps: int | None = Field(None, ge=1, le=10_000)
    seed: int = Field(0, ge=0, le=2**31 - 1)
    base: list[str] = Field(default_factory=list, max_length=2, description="imported s1 and s2 to start from")
    rank: int = Field(0, ge=0, le=256, description="of low-rank additions that learn instead of s1; 0: none")


class JobTold(Told):
    id: str
    kind: str
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    stage: str
    fraction: float
    eta_s: float | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobsTold(PageTold):
    items: list[JobTold]


class CurveTold(Told):
    id: str
    stage: str
    name: str
    points: list[list[float]] = Field(description="[step, value], by step")


class CurvesTold(PageTold):
    items: list[CurveTold]


class SampleTold(Told):
    id: str
    stage: str
    step: int
    bytes: int


class SamplesTold(PageTold):
    items: list[SampleTold]


# ---------------------------------------------------------------- announcements


ZoneName = Annotated[str, Field(min_length=1, max_length=63)]


class AnnouncementAsked(Asked):
    """Something to be said aloud, now or as soon as what is more urgent has been said."""

    text: str = Field("", max_length=MAX_TEXT)
    voice: str = Field("", max_length=SPEC_LIMIT)
    rendition: str = Field("", max_length=100, description="id of a rendered line to play, instead of text and voice")
    script: str = Field("", max_length=63, description="a published line of this script, instead of text and voice …")
    line: str = Field("", max_length=200, description="… its name")
    values: dict[str, str] = Field(default_factory=dict, description="… with these values of its variables")
    zones: list[ZoneName] = Field(default_factory=list, max_length=32, description="where; default: the first zone")
    repeats: int = Field(1, ge=1, le=5, description="how often in a row")
    pause_s: float = Field(2.0, ge=0, le=60, allow_inf_nan=False, description="between repeats")
    key: str = Field("", max_length=200, description="a message with the key of one that waits or plays is that one")
    interrupted: Literal["restart", "resume", "drop"] = Field(
        "restart", description="what becomes of it when a more urgent message interrupts it"
    )
    language: Language = "auto"
    priority: Literal["background", "normal", "urgent", "emergency"] = "normal"
    volume: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="on top of the loudspeaker's own volume")
    chime: bool | None = Field(None, description="default: as the box is set")
    max_age_s: float = Field(300.0, gt=0, le=604_800, description="not said any more once it is older than this")


class AnnouncementTold(Told):
    id: str
    text: str
    voice: str
    state: str
    reason: str
    priority: str
    zones: list[dict[str, Any]]
    created_at: str


class AnnouncementsTold(PageTold):
    items: list[AnnouncementTold]


class StoppedTold(PageTold):
    stopped: int
    items: list[AnnouncementTold]


class ZoneTold(Told):
    id: str
    state: str
    alarms: list[dict[str, Any]]
    volume: float
    is_quiet: bool
    playing: dict[str, Any] | None
    waiting: int


class ZonesTold(PageTold):
    items: list[ZoneTold]


class ScheduleAsked(Asked):
    """Something to be said again and again: `cron`, or `times` on `dates` or `weekdays` (neither: every day)."""

    name: str = Field(min_length=1, max_length=200)
    message: AnnouncementAsked
    cron: str = Field("", max_length=200, description="five or six fields, as in crontab(5)")
    times: list[str] = Field(default_factory=list, max_length=50, description="17:45")
    weekdays: list[str] = Field(default_factory=list, max_length=7, description="mon … sun")
    dates: list[str] = Field(default_factory=list, max_length=1_000, description="2026-12-24")
    first_day: str = Field("", max_length=10)
    last_day: str = Field("", max_length=10)
    except_days: list[str] = Field(default_factory=list, max_length=1_000, description="2026-12-25, or a span a/b")
    time_zone: str = Field("", max_length=60, description="IANA name; empty: the one of the box")
    if_missed: Literal["play", "skip"] = Field("skip", description="when its time was jumped over")
    grace_s: float = Field(300.0, ge=0, le=86_400, allow_inf_nan=False, description="how late it may be played then")


class ScheduleChangeAsked(Asked):
    is_enabled: bool


class ScheduleTold(Told):
    id: str
    name: str
    rule: dict[str, Any]
    message: dict[str, Any]
    time_zone: str
    if_missed: str
    grace_s: float
    is_enabled: bool
    created_at: str
    next: list[str]


class SchedulesTold(PageTold):
    items: list[ScheduleTold]


class RunTold(Told):
    id: str
    due_at: str
    outcome: str
    reason: str
    announcement: str
    decided_at: str


class RunsTold(PageTold):
    items: list[RunTold]


class MusicAsked(Asked):
    """A playlist to be played in a zone until it is stopped."""

    playlist: str = Field(min_length=1, max_length=200)
    zone: str = Field("", max_length=63, description="default: the first zone")
    volume: float = Field(1.0, ge=0, le=1, allow_inf_nan=False, description="on top of the zone's own")
    shuffle: bool = False


class ZoneQuery(Asked):
    zone: str = Field("", max_length=63, description="default: all zones")


class MusicTold(Told):
    id: str = Field(description="the zone")
    playlist: str
    state: Literal["playing", "waiting", "empty", "stopped"]
    file: str
    position_s: float | None


class MusicsTold(PageTold):
    items: list[MusicTold]
    playlists: dict[str, int] = Field(description="by name: how many files")


class MusicStoppedTold(Told):
    stopped: int


class VolumeAsked(Asked):
    volume: float = Field(ge=0, le=1, allow_inf_nan=False, description="until the next start of the box")


# ---------------------------------------------------------------- operators


class HealthTold(Told):
    status: Literal["ok"]


class ReadyTold(Told):
    is_ready: bool
    parts: dict[str, str]


class SystemTold(Told):
    box: dict[str, Any]
    speech: dict[str, Any]
    workers: list[dict[str, Any]]
    loudspeaker: dict[str, Any]
    storage: dict[str, Any]


class PluginTold(Told):
    id: str
    source: str
    version: str
    state: Literal["active", "quarantined", "blocked"]
    provides: list[str]


class PluginsTold(PageTold):
    items: list[PluginTold]


class ProblemTold(Told):
    """An error: RFC 9457 with a stable code, what was measured, and what to do."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    measured: dict[str, Any]
    remedy: str
    instance: str


class OpenAiErrorTold(Told):
    error: dict[str, Any]


# ---------------------------------------------------------------- marks


class DetectAsked(Asked):
    filename: str = Field("", max_length=200, description="kept nowhere")


class DetectionTold(Told):
    """Each mark is an object, or null when it was not found."""

    is_marked: bool
    is_from_this_box: bool
    watermark: dict[str, Any] | None
    aigc: dict[str, Any] | None
    provenance: dict[str, Any] | None
    duration_s: float
    searched_s: float


# ---------------------------------------------------------------- voiceprints


class ProtectedAsked(Asked):
    name: str = Field(min_length=1, max_length=200, description="whose voice it is; for people")
    filename: str = Field("", max_length=200, description="kept nowhere, like the sound")


class ProtectedTold(Told):
    id: str
    name: str
    created_at: str
    pieces: int


class ProtectedListTold(Told):
    items: list[ProtectedTold]
    next: str | None


class ReviewAsked(Asked):
    decision: Literal["allow", "deny"]


class ReviewTold(Told):
    id: str
    voice: str
    kind: str
    other: str
    score: float
    state: str


class ReviewsTold(Told):
    items: list[ReviewTold]
    next: str | None


# ---------------------------------------------------------------- spoken consents


class StatementAsked(Asked):
    """Who is to say what."""

    speaker: str = Field(min_length=1, max_length=100)
    voice: str = Field("", max_length=63, description="the voice it is for; empty: every voice of the speaker")
    purposes: list[str] = Field(min_length=1, max_length=8, description="clone, speak, announce, publish, share")
    language: Literal["en", "zh"] = "en"
    expires_at: str | None = Field(None, max_length=40, description="of the consent; ISO 8601, UTC")


class StatementTold(Told):
    id: str
    statement: str
    valid_until: str


class StatementSaid(Asked):
    filename: str = Field("", max_length=200)


class EraseAsked(Asked):
    confirm: str = Field(max_length=100, description="the speaker's id again")


class ErasedTold(Told):
    id: str
    receipt: str
    counts: dict[str, int]
