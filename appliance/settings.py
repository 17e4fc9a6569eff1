"""Every setting of the box, read once, frozen, handed down in slices.

Layers, later wins: defaults < hardware profile (`firmware-configs/NAME.toml`) < site file (`/etc/voiced/voiced.toml`)
< environment (`VOICED_…`, `__` for nesting) < command line. Unknown keys are errors. Only the daemon and the CLI build
`Settings`; nothing else reads settings from the environment (what it says beside them is in `appliance.environment`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from appliance.errors import InvalidInput
from appliance.policies import PURPOSES, ConsentPolicy
from appliance.settings_files import merge, profile_path, read_toml

SITE_FILE = Path("/etc/voiced/voiced.toml")


class Slice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpSettings(Slice):
    """The HTTP doors."""

    host: str = "127.0.0.1"  # loopback until a site decides otherwise
    port: int = Field(8790, ge=0, le=65535)  # 0 takes a free port and prints it
    tls: Literal["auto", "off", "required"] = "auto"  # auto: for all but this machine; required: for it, too
    trust_loopback: bool | None = None  # None: trusted unless an admin token was configured
    max_upload_mb: int = Field(64, ge=1, le=4096)
    body_timeout_s: float = Field(60.0, gt=0)  # a body that is not complete by then is refused
    keepalive_s: float = Field(10.0, gt=0, le=60)
    drain_s: float = Field(20.0, ge=0)  # how long running answers may finish at shutdown
    max_streams: int = Field(32, ge=1)  # connections of /v1/stream open at once; more are answered 503
    stream_idle_s: float = Field(300.0, gt=0)  # one on which nothing is written or spoken is closed after this


class SpeechSettings(Slice):
    """Synthesis limits and loudness."""

    default_voice: str = ""  # where nobody names one; empty: the own voice promoted last, else the engine's first
    max_characters: int = Field(5_000, ge=1, le=100_000)
    max_waiting: int = Field(64, ge=1)  # requests admitted at once; more are answered 503 + Retry-After
    max_waiting_per_client: int = Field(64, ge=1)  # of them from one client address or token; more are answered 429
    deadline_s: float = Field(120.0, gt=0)  # one whole request
    clause_deadline_s: float = Field(60.0, gt=0)  # one clause in the worker; then the worker is replaced
    cache_mb: int = Field(500, ge=0, le=1_000_000)  # of what was said before, kept on disk; 0 keeps nothing
    target_lufs: float = Field(-18.0, ge=-40, le=-8)
    peak_dbfs: float = Field(-1.0, ge=-12, le=0)


class WorkerSettings(Slice):
    """Engine worker processes."""

    count: int = Field(1, ge=1, le=16)
    threads: int = Field(0, ge=0, le=64)  # 0: all cores / count
    start_timeout_s: float = Field(90.0, gt=0)
    idle_listener_s: float = Field(300.0, gt=0)  # a listener (checks, ASR) without work is stopped after this


class IntakeSettings(Slice):
    """When a recording is good enough."""

    min_snr_db: float = 15.0
    min_duration_s: float = Field(2.0, gt=0)
    max_duration_s: float = Field(600.0, gt=0)
    min_sample_rate: int = 16_000  # below: refused; below 24 000: accepted with a warning and upsampled
    max_clipped_share: float = Field(0.001, ge=0, le=1)
    min_speech_share: float = Field(0.4, ge=0, le=1)
    min_dnsmos: float = Field(2.5, ge=1, le=5)
    max_music_share: float = Field(0.08, ge=0, le=1)  # of the time, with steady tones
    min_voice_split: float = Field(0.78, ge=-1, le=1)  # cosine between the most different parts: one person or two
    min_speaker_cosine: float = Field(0.78, ge=-1, le=1)  # to the earlier clips of a session
    max_word_error: float = Field(0.35, ge=0, le=1)  # of a prompt, as the recogniser hears it
    max_long_s: float = Field(14_400.0, gt=0)  # a long recording that is cut into clips
    max_long_mb: int = Field(3000, ge=1, le=65_536)


class CloneSettings(Slice):
    """Fine-tuning and examination."""

    min_speech_s: float = Field(15.0, gt=0)
    steps: int = Field(100, ge=1)
    threads: int = Field(1, ge=1)
    nice: int = Field(10, ge=0, le=19)
    max_memory_mb: int = Field(0, ge=0)  # of the trainer; 0: as the service manager bounds it. Not with a GPU
    max_wer: float = Field(0.25, ge=0, le=1)  # examination: what the ASR may mishear
    max_pitch_drift: float = Field(3.0, ge=0, le=24)  # examination: semitones from the speaker's median pitch
    min_dnsmos: float = Field(2.5, ge=1, le=5)  # examination: overall quality of what the clone says
    denoise: bool = False  # lower steady noise in the clips that are trained on; recordings stay as they came
    max_rate_drift: float = Field(0.6, ge=0)  # examination: share by which it may be faster or slower than the speaker
    max_dropped_share: float = Field(0.1, ge=0, le=1)  # examination: of the words
    max_repeated: int = Field(2, ge=0)  # examination: words said twice
    min_likeness_gain: float = 1.0  # log-likelihood ratio that the clone must gain over the voice it grew from
    promote_on_pass: bool = True
    promoted_by_person: tuple[str, ...] = ()  # tenants for whom a person promotes, whatever `promote_on_pass` says
    socket: Path | None = None  # UNIX socket where a service manager starts trainers in a unit of their own

    def needs_person(self, tenant: str) -> bool:
        """Whether only a person promotes a voice of this tenant."""
        return not self.promote_on_pass or tenant in self.promoted_by_person


class ModelSettings(Slice):
    """Weights that an operator imports."""

    max_upload_mb: int = Field(4096, ge=1, le=65_536)  # all files of one import over HTTP together
    upload_timeout_s: float = Field(1800.0, gt=0)


class MarksSettings(Slice):
    """How speech is marked as made by a machine."""

    profile: Literal["cn", "eu", "off-by-agreement"] = "eu"  # when the rhythm is heard: always; own voices; never
    agreement: str = ""  # "off-by-agreement" needs it: where the agreement with the recipients is written down
    producer: str = ""  # name or code in the metadata; empty: this box's name
    label_once_per_session: bool = False  # on a WebSocket, per voice; else before every utterance
    provenance: bool = False  # signed provenance (C2PA) in published files, where nobody says otherwise

    @model_validator(mode="after")
    def _has_agreement(self) -> MarksSettings:
        if self.profile == "off-by-agreement" and not self.agreement.strip():
            raise ValueError("profile off-by-agreement needs agreement: where it is written down")
        return self


class PublishingSettings(Slice):
    """Where publications may be written."""

    folders: tuple[Path, ...] = ()  # folders outside the state directory that channels may write below


Purpose = Literal["clone", "speak", "announce", "publish", "share"]


class ConsentSettings(Slice):
    """What every tenant of the box has to keep to; a tenant may demand more of itself."""

    written: bool = True  # whether a typed consent counts; else the speaker has to say it
    spoken_for: tuple[Purpose, ...] = ()  # purposes for which a typed one does not count
    excluded: tuple[Purpose, ...] = ()  # purposes that nobody may agree to
    longest_days: int | None = Field(None, ge=1, le=36_600)  # after which a consent ends in any case

    @property
    def floor(self) -> ConsentPolicy:
        spoken = self.spoken_for if self.written else PURPOSES
        return ConsentPolicy(spoken, self.excluded, self.longest_days)


class GateSettings(Slice):
    """Whose voice must not be cloned."""

    enabled: bool = True
    block: float = 0.52  # likeness (see audio/voiceprint.py) from which a clone is refused
    review: float = 0.46  # from which a person has to judge


class WyomingSettings(Slice):
    """Home Assistant and other assistants. The protocol has no credentials: a token says as whom the door acts."""

    enabled: bool = True
    host: str = "127.0.0.1"  # another one needs `token`
    port: int = Field(10200, ge=0, le=65535)  # 0 takes a free port; `voiced doctor` tells it
    token: str = Field("", pattern=r"^(tok_[0-9a-f]{16})?$")  # public id; empty: this machine only, while it is trusted
    networks: tuple[IPvAnyNetwork, ...] = ()  # that may connect; empty: private addresses
    default_voice: str = ""  # where a client names none; empty: as `speech.default_voice` says
    max_connections: int = Field(32, ge=1)
    idle_s: float = Field(300.0, gt=0)  # a connection on which nothing is asked or spoken is closed after this


class DiscoverySettings(Slice):
    enabled: bool = True
    name: str = ""  # shown on the LAN; empty: host name


TIMES = (
    r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"  # "22:00-07:00": over midnight where it ends before it begins
)
Times = Annotated[str, Field(pattern=TIMES)]


class ZoneSettings(Slice):
    """One named output of the box, or (with `peer` and `zone`) the zone of a paired box."""

    devices: tuple[str, ...] = Field(("",), min_length=1)  # in order of preference; "": the default of the system
    channels: tuple[Annotated[int, Field(ge=1, le=64)], ...] = ()  # of the device, from 1; empty: all
    volume: float = Field(0.8, ge=0, le=1)
    delay_ms: float = Field(0.0, ge=0, le=2_000)
    quiet_hours: tuple[Times, ...] = ()  # only emergencies are heard then
    volume_by_time: dict[Times, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    peer: str = Field("", max_length=200)  # id or name of a paired box; empty: an output of this one
    zone: str = Field("", max_length=63)  # the zone of that box

    @model_validator(mode="after")
    def _is_here_or_there(self) -> ZoneSettings:
        if bool(self.peer) != bool(self.zone):
            raise ValueError("peer and zone go together")
        if self.peer and self.model_fields_set & {"devices", "channels", "delay_ms"}:
            raise ValueError("devices, channels and delay_ms of another box's zone are that box's own")
        return self

    @property
    def own_volume(self) -> float:
        """`volume`; another box's zone has one of its own, so nothing is taken from it unless somebody says so."""
        return 1.0 if self.peer and "volume" not in self.model_fields_set else self.volume


class LoudspeakerSettings(Slice):
    enabled: bool = True
    device: str = ""  # sounddevice name or index; empty: default. Of the zone "main", where no zones are named
    sample_rate: int = 48_000
    volume: float = Field(0.8, ge=0, le=1)  # of the zone "main", where no zones are named
    chime: bool = True
    max_queue: int = Field(100, ge=1)
    zones: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")], ZoneSettings] = Field(
        default_factory=dict, max_length=32
    )
    time_zone: str = ""  # IANA name ("Asia/Shanghai") of quiet hours and schedules; empty: the machine's own
    target_lufs: float | None = Field(-18.0, ge=-40, le=-8)  # of every message; None: as it comes
    preempts: tuple[Literal["normal", "urgent", "emergency"], ...] = ("urgent", "emergency")  # interrupt what is lesser
    duck_db: float = Field(-18.0, ge=-80, le=0)  # music under speech
    music_dir: Path | None = None  # None: <state_dir>/music
    music_lufs: float | None = Field(-20.0, ge=-40, le=-8)  # of every music file; None: as it comes
    media_role: str = "announce"  # hint for PulseAudio and PipeWire

    @property
    def named_zones(self) -> dict[str, ZoneSettings]:
        """The zones of the box: those of the settings, else one, `main`."""
        return dict(self.zones) or {"main": ZoneSettings(devices=(self.device,), volume=self.volume)}


class PluginSettings(Slice):
    blocked: tuple[str, ...] = ()
    drop_in_dir: Path | None = None  # None: <state_dir>/plugins
    load_timeout_s: float = Field(3.0, gt=0)
    options: dict[str, dict[str, str | int | float | bool]] = Field(default_factory=dict)  # by plugin name


class EngineSettings(Slice):
    default: str = "embedded"
    backends: tuple[str, ...] = ()  # those that may be used, in order of preference; empty: all that can be used here
    optimise: bool = True  # export imported networks for these backends, in a child of the worker
    transcriber: str = "whisper"


class SecuritySettings(Slice):
    """Encryption at rest: the master key (None: the box's own, <state_dir>/keys/master.key), and plaintext's place."""

    key_file: Path | None = None
    plaintext_dir: Path | None = None  # a folder in memory for decrypted files; None: one below /dev/shm


OWED_DAYS = 184  # six months, the longest that they can be


class AuditSettings(Slice):
    retention_days: int = Field(0, ge=0)  # older entries go, behind a signed tombstone; 0: none ever


class HistorySettings(Slice):
    days: int = Field(90, ge=0)  # what is over goes after this: announcements, schedule runs, narrations; 0: nothing

    @model_validator(mode="after")
    def _outlives_repetitions(self) -> HistorySettings:
        if 0 < self.days < 14:  # a message may wait for seven days, and must not be forgotten before
            raise ValueError("history.days: 0, or 14 and more")
        return self


class LogSettings(Slice):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["text", "json"] = "text"


class Settings(BaseSettings):
    """The whole tree. Build it with `load_settings`."""

    model_config = SettingsConfigDict(env_prefix="VOICED_", env_nested_delimiter="__", frozen=True, extra="forbid")

    state_dir: Path = Path("/var/lib/voiced")
    admin_token: SecretStr | None = None  # None: one is made at first boot in <state_dir>/admin.token (0600)
    tenant: str = Field("main", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    language: Literal["en", "zh"] = "en"
    profile: str = ""
    http: HttpSettings = HttpSettings()
    speech: SpeechSettings = SpeechSettings()
    worker: WorkerSettings = WorkerSettings()
    intake: IntakeSettings = IntakeSettings()
    clone: CloneSettings = CloneSettings()
    models: ModelSettings = ModelSettings()
    consent: ConsentSettings = ConsentSettings()
    gate: GateSettings = GateSettings()
    marks: MarksSettings = MarksSettings()
    publishing: PublishingSettings = PublishingSettings()
    wyoming: WyomingSettings = WyomingSettings()
    discovery: DiscoverySettings = DiscoverySettings()
    loudspeaker: LoudspeakerSettings = LoudspeakerSettings()
    plugins: PluginSettings = PluginSettings()
    engine: EngineSettings = EngineSettings()
    audit: AuditSettings = AuditSettings()
    history: HistorySettings = HistorySettings()
    security: SecuritySettings = SecuritySettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _keeps_owed_log(self) -> Settings:
        """Who delivers without an audible label keeps the log of it (CAC labelling measures, article 9)."""
        days = self.audit.retention_days
        if self.marks.profile == "off-by-agreement" and 0 < days < OWED_DAYS:
            raise ValueError(f"marks.profile off-by-agreement needs audit.retention_days of {OWED_DAYS} or more, or 0")
        return self


NOT_SETTINGS = frozenset({"VOICED_GOLDEN"})  # read by tests only


def load_settings(
    profile: str | None = None, overrides: Mapping[str, Any] | None = None, site_file: Path = SITE_FILE
) -> Settings:
    """Read all layers and freeze them.

    `profile` names a file of `firmware-configs/` (None: what the site file or VOICED_PROFILE says); `overrides` is the
    command line, nested like the settings themselves. Raises NotFound("profile_not_found") and
    InvalidInput("settings_invalid" | "settings_unreadable" | "setting_unknown") with every problem named.
    """
    environment = _environment_of_voiced()
    site = read_toml(site_file) if site_file.is_file() else {}
    chosen = profile or environment.get("VOICED_PROFILE") or str(site.get("profile", ""))
    files = merge(read_toml(profile_path(chosen)) if chosen else {}, site)
    if chosen:
        files["profile"] = chosen

    class Layered(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings, env_settings, InitSettingsSource(settings_cls, files))

    try:
        return Layered(**dict(overrides or {}))
    except ValidationError as error:
        raise InvalidInput("settings_invalid", problems=_problems(error)) from error
    except SettingsError as error:
        raise InvalidInput("settings_invalid", problems=str(error)) from error


def _environment_of_voiced() -> dict[str, str]:
    """The VOICED_ part of the environment; a misspelt name is an error, not a silence."""
    mine = {key.upper(): value for key, value in os.environ.items() if key.upper().startswith("VOICED_")}
    fields = {name.upper() for name in Settings.model_fields}
    for key in sorted(set(mine) - NOT_SETTINGS):
        if key.removeprefix("VOICED_").split("__")[0] not in fields:
            raise InvalidInput("setting_unknown", name=key)
    return mine


def _problems(error: ValidationError) -> str:
    rows = (f"{'.'.join(str(part) for part in row['loc'])}: {row['msg']}" for row in error.errors(include_input=False))
    return "; ".join(rows)
