"""What is asked of speech, whole and streamed, in voiced's own words, api_v2's and OpenAI's."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from appliance.doors.http.schemas import MAX_SEED, MAX_TEXT, SPEC_LIMIT, Asked, Language, Told

SpeechFormat = Literal["wav", "flac", "mp3", "opus", "pcm"]

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
        if asked.get("seed") in [-1, "-1", ""]:  # lists: what was sent need not be hashable
            asked["seed"] = None
        if asked.get("stream") in [2, 3, "2", "3"]:  # api_v2 grades how it streams
            asked["stream"] = True
        for name in ("format", "lang"):
            if isinstance(asked.get(name), str):
                asked[name] = asked[name].lower()
        if isinstance(asked.get("format"), str):
            asked["format"] = API_V2_FORMATS.get(asked["format"], asked["format"])
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
