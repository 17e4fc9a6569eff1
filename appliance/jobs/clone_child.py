"""The work of a clone job, in its child: dataset, adaptation, examination.

It writes only under its job folder and the cache, so it can be killed at any moment: the next child goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from appliance.contracts import (
    AdaptedVoice,
    AdaptTask,
    Audio,
    Clip,
    Engine,
    EngineHost,
    JsonDict,
    Progress,
    StarterVoice,
    Transcriber,
    VoiceAssets,
)
from appliance.errors import Corrupt, NotFound, Unavailable
from appliance.jobs.artifacts import CURVES, SAMPLES, CurveFile
from appliance.jobs.dataset import SAMPLE_RATE, derive_clips
from appliance.jobs.examination import Candidates, Examination, Outcome
from appliance.jobs.hearing import load_transcriber
from appliance.jobs.measuring import Speaker, hear_speaker
from appliance.jobs.records import ChildSpec, CloneTask
from appliance.jobs.reporting import Reporter
from appliance.jobs.sentences import Sentence
from appliance.plugin_manager import Plugins, load_plugins
from appliance.settings import CloneSettings, PluginSettings

log = logging.getLogger(__name__)

PREPARED, FITTED = 0.03, 0.80  # overall fractions at which the stages end
SPEAKER_S = 90.0  # of the speaker's sound are enough to model a voice


def run(spec: ChildSpec, reporter: Reporter) -> JsonDict:
    """The `done` message of a clone job. Raises VoicedError."""
    return CloneJob(spec.job_dir, CloneTask.from_json(spec.task), reporter).run()


class CloneJob:
    """Dataset, adaptation, examination, in one process."""

    def __init__(self, job_dir: str, spec: CloneTask, reporter: Reporter) -> None:
        self._spec = spec
        self._reporter = reporter
        self._folder = Path(job_dir)
        self._limits = CloneSettings.model_validate(spec.clone)
        reporter.curves = CurveFile(self._folder / CURVES)

    def run(self) -> JsonDict:
        """The `done` message: files by role, settings, metrics, base, engine version, and the examination."""
        spec = self._spec
        self._reporter.progress("prepare", 0.0)
        plugins = load_plugins(PluginSettings.model_validate(spec.plugins), Path(spec.drop_in_dir))
        engine = _make_engine(plugins, spec.engine)
        rate = max(SAMPLE_RATE, engine.sample_rate)
        clips = derive_clips(spec.clips, self._folder / "clips", spec.language, spec.max_duration_s, rate)
        host = _make_host(plugins, spec, self._limits.threads)
        kept = {clip["recording"] for clip in spec.clips if clip.get("held_out")}
        adapted = self._adapt(engine, host, tuple(clip for clip in clips if clip.recording_id not in kept))
        states = (*adapted.earlier, adapted)
        engine.load(host)
        transcriber = load_transcriber(plugins, spec.transcriber, self._limits.threads, Path(spec.cache_dir))
        outcome = self._examine(engine, transcriber, states, read_speaker(clips, kept))
        return self._result(engine, states[outcome.chosen], outcome) | {"clips": _digests(clips)}

    def _adapt(self, engine: Engine, host: EngineHost, clips: tuple[Clip, ...]) -> AdaptedVoice:
        able = engine.can_adapt()
        if not able.usable:
            raise Unavailable("cloning_unavailable", reason=able.reason)
        options = {"steps": self._spec.steps, "threads": self._limits.threads, **self._spec.options}
        base = _verified(self._spec.base)
        task = AdaptTask(clips, self._folder / "work", self._spec.seed, options, base, self._folder / SAMPLES)

        def report(progress: Progress) -> None:
            fraction = PREPARED + (FITTED - PREPARED) * min(1.0, max(0.0, progress.fraction))
            self._reporter.progress(progress.stage, fraction, progress.metrics)

        return engine.adapt(task, host, report)

    def _examine(
        self, engine: Engine, transcriber: Transcriber | None, states: Sequence[AdaptedVoice], speaker: Speaker
    ) -> Outcome:
        candidates = _candidates(engine, states, self._folder / "starters")
        tell = lambda fraction: self._reporter.progress("examine", FITTED + (1.0 - FITTED) * 0.98 * fraction)
        examination = Examination(engine, transcriber, self._limits, tell)
        return examination.run(candidates, speaker, self._folder / "exam", self._spec.seed)

    def _result(self, engine: Engine, adapted: AdaptedVoice, outcome: Outcome) -> JsonDict:
        files = {role: str(path) for role, path in {**adapted.files, **outcome.files}.items()}
        settings = {**adapted.settings, "sample_rate": engine.sample_rate}
        if outcome.lufs is not None:
            settings["lufs"] = round(outcome.lufs, 2)
        return {
            "files": files,
            "settings": settings,
            "metrics": dict(adapted.metrics),
            "base": adapted.base,
            "weights": dict(adapted.weights),
            "engine_version": engine.probe().version,
            "exam": outcome.report,
        }


def _verified(base: JsonDict) -> dict[str, Path]:
    """Role -> file, every byte as it was imported. Raises Corrupt("blob_corrupt"), NotFound("model_not_imported")."""
    for role, file in base.items():
        try:
            with Path(file["path"]).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise NotFound("model_not_imported", model=role) from error
        if found != file["sha256"]:
            raise Corrupt("blob_corrupt", digest=file["sha256"], found=found)
    return {role: Path(file["path"]) for role, file in base.items()}


def _make_engine(plugins: Plugins, name: str) -> Engine:
    factory = plugins.engines.get(name)
    if factory is None:
        raise Unavailable("engine_missing", engine=name)
    return factory()


def _make_host(plugins: Plugins, spec: CloneTask, threads: int) -> EngineHost:
    frontends = {name: factory() for name, factory in plugins.frontends.items()}
    backends = plugins.make_backends(spec.backends)
    return EngineHost(backends, frontends, Path(spec.cache_dir), threads, measures=False)


def _candidates(engine: Engine, states: Sequence[AdaptedVoice], folder: Path) -> Candidates:
    clones = tuple(_assets(engine.name, dict(state.files), state.settings) for state in states)
    starters = {starter.name: _starter_assets(engine.name, starter, folder) for starter in engine.starter_voices()}
    base = starters.pop(states[-1].base, None)
    return Candidates(clones, base, tuple(starters.values()))


def _digests(clips: Sequence[Clip]) -> JsonDict:
    """What the engine was given: recording -> sha256 of its derived clip."""
    return {clip.recording_id: hashlib.sha256(clip.path.read_bytes()).hexdigest() for clip in clips}


def _starter_assets(engine: str, starter: StarterVoice, folder: Path) -> VoiceAssets:
    files: dict[str, Path] = {}
    for role, content in starter.files.items():
        files[role] = folder / starter.name / role
        files[role].parent.mkdir(parents=True, exist_ok=True)
        files[role].write_bytes(content)
    return _assets(engine, files, starter.settings)


def _assets(engine: str, files: dict[str, Path], settings: JsonDict) -> VoiceAssets:
    digest = hashlib.sha256(json.dumps([engine, settings], sort_keys=True).encode())
    for role, path in sorted(files.items()):
        with path.open("rb") as file:
            digest.update(role.encode() + hashlib.file_digest(file, "sha256").digest())
    return VoiceAssets(f"sha256:{digest.hexdigest()}", engine, files, settings)


def read_speaker(clips: Sequence[Clip], kept: Collection[str]) -> Speaker:
    """The speaker's own sound, as much as the examination needs; `kept` are the recordings that were held out."""
    from appliance.audio.files import mono_at, read_audio

    trained: list[Audio] = []
    held_out: list[tuple[Sentence, Audio]] = []
    labelled: list[tuple[Sentence, Audio]] = []
    for clip in sorted(clips, key=lambda one: one.recording_id not in kept):  # those that were held out first
        is_enough = sum(part.duration_s for part in trained) >= SPEAKER_S
        if is_enough:
            break
        audio = mono_at(read_audio(clip.path, max_duration_s=3600.0), SAMPLE_RATE)
        sentence = Sentence(clip.language, clip.transcript)
        if clip.transcript:
            labelled.append((sentence, audio))
        if clip.recording_id in kept:
            held_out.append((sentence, audio))
        else:
            trained.append(audio)
    model, rest = hear_speaker(trained, [audio for _, audio in held_out])
    return Speaker(model, rest, tuple(held_out), tuple(labelled))
