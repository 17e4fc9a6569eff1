"""What the voices room hands to others: frozen records, each with an `as_json()` for the doors."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from appliance.contracts import JsonDict, QualityReport
from appliance.vault.keys import Owner

_VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def new_id(prefix: str) -> str:
    """An unguessable id that says what it names: "rec_5f0c…" (64 random bits)."""
    return f"{prefix}_{secrets.token_hex(8)}"


def is_voice_id(text: str) -> bool:
    """Whether a voice may be called so: 1 to 63 small letters, digits, "-" and "_", a letter or digit first."""
    return _VOICE_ID.fullmatch(text) is not None


def clean_name(name: str) -> str:
    """A name from outside, fit for a query and a message: lone surrogates, which neither can carry, become "?"."""
    return name.encode("utf-8", "replace").decode()[:200]


def to_json(value: Any) -> str:
    """JSON text as it is stored: sorted keys, so that equal values are equal text and have equal digests."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _public(record: Any, *hidden: str) -> JsonDict:
    return {key: value for key, value in asdict(record).items() if key not in hidden}


@dataclass(frozen=True)
class NewVoice:
    """A voice to be named. `id` matches ^[a-z0-9][a-z0-9_-]{0,62}$."""

    id: str
    title: str = ""  # empty: the id
    description: str = ""
    gender: str = ""  # "female" | "male" | ""
    languages: tuple[str, ...] = ()
    speaker: str = ""  # whose voice it is; empty when the box was not told
    origin: str = "own"  # "starter": came with an engine and needs no consent


@dataclass(frozen=True)
class Voice:
    """A named asset of a tenant. Only its alias (`current`) ever moves."""

    tenant: str
    id: str
    title: str
    description: str
    gender: str
    languages: tuple[str, ...]
    created_at: str
    current: int | None  # number of the version in production; None before the first promotion
    speaker: str = ""
    origin: str = "own"
    latest: int | None = None  # highest version number there is

    def as_json(self) -> JsonDict:
        return _public(self, "tenant") | {"languages": list(self.languages)}


@dataclass(frozen=True)
class NewVersion:
    """A version to be filed. `files` are digests of blobs that are already in the store."""

    engine: str
    files: Mapping[str, str] = field(default_factory=dict)  # role -> sha256
    settings: JsonDict = field(default_factory=dict)
    metrics: JsonDict = field(default_factory=dict)
    lineage: JsonDict = field(default_factory=dict)  # job, dataset, recordings, base, engine_version, seed


@dataclass(frozen=True)
class VoiceVersion:
    """One state of a voice, for ever: engine, files by digest, settings, what was measured, where it came from."""

    tenant: str
    voice: str
    number: int
    engine: str
    files: Mapping[str, str]  # role -> sha256
    settings: JsonDict
    metrics: JsonDict
    lineage: JsonDict
    created_at: str
    owner: Owner | None = None  # whose voice it is; None: nobody's (a starter)

    @property
    def spec(self) -> str:
        """How clients name exactly this version: "anna@3"."""
        return f"{self.voice}@{self.number}"

    def as_json(self) -> JsonDict:
        return {"id": self.spec, **_public(self, "tenant", "owner")}


@dataclass(frozen=True)
class AliasMove:
    """One change of the version in production."""

    name: str
    voice: str
    from_number: int | None
    to_number: int | None  # None: the voice was deleted
    reason: str
    moved_at: str
    kind: str = "promote"  # "promote" | "rollback" | "delete" | "seed"
    actor: str = ""  # who asked for it; empty: the box itself

    def as_json(self) -> JsonDict:
        return _public(self)


@dataclass(frozen=True)
class NewRecording:
    """A captured clip to be kept, with the verdict on it. `source` is read, never moved."""

    source: Path | bytes
    filename: str  # as the user called it; kept for people, never used as a path
    duration_s: float
    sample_rate: int  # Hz
    report: QualityReport
    transcript: str = ""
    language: str = ""
    transcript_source: str = ""  # "given" | "asr" | "prompt" | "" when there is none
    speaker: str = ""
    lineage: JsonDict = field(default_factory=dict)  # of a derived clip: recording, start_s, end_s, derivation
    session: str = ""
    prompt: str = ""  # id of the prompt that was read


@dataclass(frozen=True)
class Recording:
    """One captured clip. The sound never changes; its transcript may be corrected."""

    tenant: str
    id: str
    sha256: str
    filename: str
    duration_s: float
    sample_rate: int  # Hz
    accepted: bool
    report: JsonDict  # accepted, reasons, warnings, measures
    transcript: str
    language: str
    transcript_source: str  # "given" | "asr" | "prompt" | "" when there is none
    speaker: str
    created_at: str
    lineage: JsonDict = field(default_factory=dict)  # of a derived clip: recording, start_s, end_s, derivation
    session: str = ""
    prompt: str = ""

    def as_json(self) -> JsonDict:
        return _public(self, "tenant")


def report_as_json(report: QualityReport) -> JsonDict:
    """A verdict as it is stored: codes and figures only, so that doors can word it in the reader's language."""
    return {
        "accepted": report.accepted,
        "reasons": [{"code": reason.code, "measured": dict(reason.measured)} for reason in report.reasons],
        "warnings": [{"code": reason.code, "measured": dict(reason.measured)} for reason in report.warnings],
        "measures": dict(report.measures),
    }


WRITTEN, SPOKEN = "written", "spoken"


@dataclass(frozen=True)
class NewConsent:
    """What a speaker agreed to. With `voice` empty it covers every voice of that speaker."""

    speaker: str
    voice: str = ""
    purposes: tuple[str, ...] = ("clone", "speak", "announce")
    statement: str = ""  # the words agreed to
    evidence: str = ""  # id of the recording in which the speaker says so
    expires_at: str | None = None  # ISO 8601; None: until revoked
    strength: str = WRITTEN


@dataclass(frozen=True)
class Consent:
    """What a speaker agreed to; only ever ended (`revoked_at`), never rewritten."""

    tenant: str
    id: str
    speaker: str
    voice: str
    purposes: tuple[str, ...]
    statement: str
    evidence: str
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    strength: str = WRITTEN  # "spoken": the box heard it; "written": somebody typed that it was given

    def as_json(self) -> JsonDict:
        return _public(self, "tenant") | {"purposes": list(self.purposes)}


@dataclass(frozen=True)
class NewRendition:
    """A rendered line to be kept. `source` is the finished sound; `id` empty makes one."""

    source: Path | bytes
    voice: str
    number: int
    text: str
    language: str
    seed: int
    duration_s: float
    settings: JsonDict = field(default_factory=dict)
    marks: JsonDict = field(default_factory=dict)
    id: str = ""
    owner: Owner | None = None  # whose voice it is; None: nobody's


@dataclass(frozen=True)
class Rendition:
    """One immutable rendered line."""

    tenant: str
    id: str
    sha256: str
    voice: str
    number: int
    text: str
    language: str
    seed: int
    settings: JsonDict
    marks: JsonDict
    duration_s: float
    created_at: str

    def as_json(self) -> JsonDict:
        return _public(self, "tenant")


@dataclass(frozen=True)
class Dataset:
    """The clips one training run saw: immutable, named by the digest over them."""

    tenant: str
    id: str
    digest: str  # sha256 over the clips' records
    clips: tuple[JsonDict, ...]  # recording, sha256, transcript, language, duration_s, …
    stats: JsonDict  # seconds, clips, languages, SNR range
    created_at: str

    def as_json(self) -> JsonDict:
        return _public(self, "tenant") | {"clips": list(self.clips)}
