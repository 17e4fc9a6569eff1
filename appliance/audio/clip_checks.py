"""What only the session knows of a clip: the words that were to be read and the person who reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from appliance.audio.files import mono_at, read_audio
from appliance.audio.speaker_embedding import SAMPLE_RATE
from appliance.audio.speakers import know_speaker, speaker_cosine
from appliance.audio.transcripts import misheard_share
from appliance.contracts import JsonDict, QualityReport, Reason, Transcript
from appliance.errors import InvalidInput
from appliance.settings import IntakeSettings


def check_words(
    report: QualityReport, prompt: str, language: str, heard: Transcript | None, limits: IntakeSettings
) -> QualityReport:
    """The verdict with what was heard held against the prompt; `heard` None: the box cannot listen."""
    if heard is None:
        return replace(report, warnings=(*report.warnings, Reason("words_not_checked")))
    error = round(misheard_share(prompt, heard.text, language), 3)
    measures = report.measures | {"word_error": error}
    if error <= limits.max_word_error:
        return replace(report, measures=measures)
    measured = {
        "error": error,
        "limit": limits.max_word_error,
        "heard": heard.text[:200] or "–",
        "prompt": prompt[:200],
    }
    return _refused(replace(report, measures=measures), Reason("wrong_words", measured))


def check_speaker(
    report: QualityReport, clip: Path, references: Sequence[Path], limits: IntakeSettings
) -> QualityReport:
    """The verdict with the speaker held against earlier clips; too short to say: unchanged."""
    sounds = [
        mono_at(read_audio(path, max_duration_s=limits.max_duration_s), SAMPLE_RATE) for path in (clip, *references)
    ]
    try:
        cosine = speaker_cosine(sounds[0], know_speaker(sounds[1:]))
    except InvalidInput:
        cosine = None
    measures: JsonDict = report.measures | {"speaker_cosine": None if cosine is None else round(cosine, 3)}
    report = replace(report, measures=measures)
    if cosine is None or cosine >= limits.min_speaker_cosine:
        return report
    measured = {"cosine": round(cosine, 3), "minimum": limits.min_speaker_cosine}
    return _refused(report, Reason("other_speaker", measured))


def _refused(report: QualityReport, reason: Reason) -> QualityReport:
    return replace(report, accepted=False, reasons=(*report.reasons, reason))
