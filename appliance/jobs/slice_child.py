"""The work of a slice job, in its child: cut, check, write down what is said. Clips that do not do are left out."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from appliance.audio.files import DecodedAudio, write_wav
from appliance.audio.quality import check_recording
from appliance.audio.slicing import DERIVATION, Slice, open_long, slice_long
from appliance.contracts import JsonDict, Transcriber
from appliance.errors import InvalidInput
from appliance.jobs.hearing import load_transcriber
from appliance.jobs.records import ChildSpec, SliceTask
from appliance.jobs.reporting import Reporter
from appliance.plugin_manager import load_plugins
from appliance.settings import IntakeSettings, PluginSettings
from appliance.workers.records import report_as_json

log = logging.getLogger(__name__)


def run(spec: ChildSpec, reporter: Reporter) -> JsonDict:
    """The `done` message: `clips` with path, place, report and words; how many were `dropped`, by reason.

    Raises InvalidInput("long_audio_without_clips"), and as `slice_long`.
    """
    task = SliceTask.from_json(spec.task)
    limits = IntakeSettings.model_validate(task.intake)
    folder = Path(spec.job_dir) / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    with open_long(Path(task.path), limits.max_long_s) as file:
        duration_s = file.frames / file.samplerate
    plugins = load_plugins(PluginSettings.model_validate(task.plugins), Path(task.drop_in_dir))
    transcriber = load_transcriber(plugins, task.transcriber, spec.threads, Path(task.cache_dir))
    clips: list[JsonDict] = []
    dropped: Counter[str] = Counter()
    for piece in slice_long(Path(task.path), limits.max_long_s):
        report = check_recording(DecodedAudio(piece.audio.samples[:, None], piece.audio.sample_rate, "wav"), limits)
        reporter.progress("slice", 0.98 * min(1.0, piece.progress), {"clips": float(len(clips))})
        if not report.accepted:
            dropped.update(reason.code for reason in report.reasons)
            continue
        path = folder / f"{len(clips):05d}.wav"
        write_wav(path, piece.audio)
        clips.append({"path": str(path), "report": report_as_json(report), **_label(transcriber, piece, task.language)})
    if not clips:
        raise InvalidInput("long_audio_without_clips", dropped=", ".join(sorted(dropped)) or "–")
    return {"clips": clips, "dropped": dict(dropped), "duration_s": round(duration_s, 2)}


def _label(transcriber: Transcriber | None, piece: Slice, language: str) -> JsonDict:
    place = {"start_s": piece.start_s, "end_s": piece.end_s, "derivation": DERIVATION}
    if transcriber is None:  # somebody writes the words by hand
        return {**place, "transcript": "", "language": "" if language == "auto" else language}
    heard = transcriber.transcribe(piece.audio, None if language == "auto" else language)
    return {**place, "transcript": heard.text, "language": heard.language}
