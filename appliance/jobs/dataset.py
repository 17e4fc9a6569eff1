"""From recordings to what a trainer reads: which clips are usable, what they amount to, and the derived sound.

The recordings stay untouched. A derived clip is mono at 24 kHz, without silence at its ends, at one loudness; the
dataset's digest covers the recordings, their words and the way they were derived.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.audio.files import mono_at, read_audio, write_wav
from appliance.contracts import Audio, Clip, JsonDict
from appliance.errors import Corrupt, InvalidInput
from appliance.voices.records import Recording

SAMPLE_RATE = 24_000  # Hz
CLIP_LUFS = -23.0
CLIP_CEILING_DBFS = -1.0
FEWEST_TO_HOLD_OUT = 6  # clips; fewer are all needed
MOST_HELD_OUT = 2
HELD_OUT_S = (1.5, 15.0)
MARGIN_S = 0.15  # of silence kept around the speech: onsets and releases are quiet
DERIVATION = "mono 24 kHz, ends trimmed, -23 LUFS; 1"  # changes whenever `derive` gives other samples
DENOISED = "mono 24 kHz, steady noise lowered, ends trimmed, -23 LUFS; 1"


@dataclass(frozen=True)
class DatasetPlan:
    """The clips of a dataset, as records of their recordings, and what they amount to."""

    clips: tuple[JsonDict, ...]
    stats: JsonDict


def plan_dataset(recordings: Sequence[Recording], min_speech_s: float, *, denoise: bool = False) -> DatasetPlan:
    """Choose the usable recordings and how they are cleaned.

    Raises InvalidInput("dataset_empty" | "dataset_too_short").
    """
    usable = [recording for recording in recordings if recording.accepted]
    if not usable:
        raise InvalidInput("dataset_empty", recordings=len(recordings))
    first = {recording.sha256: recording.id for recording in reversed(usable)}
    unique = [recording for recording in usable if first[recording.sha256] == recording.id]  # one sound counts once
    speech_s = sum(speech_of(recording) for recording in unique)
    if speech_s < min_speech_s:
        raise InvalidInput("dataset_too_short", speech_s=round(speech_s, 1), min_speech_s=min_speech_s)
    kept = _held_out(unique, min_speech_s)
    recipe = DENOISED if denoise else DERIVATION
    clips = tuple(_as_clip(one) | {"held_out": one.id in kept, "derivation": recipe} for one in unique)
    return DatasetPlan(clips, _statistics(unique) | {"held_out": len(kept)})


def _held_out(recordings: Sequence[Recording], min_speech_s: float) -> frozenset[str]:
    """Labelled clips of a sentence's length that only the examination hears; the same recordings, the same choice."""
    if len(recordings) < FEWEST_TO_HOLD_OUT:
        return frozenset()
    fit = [one for one in recordings if one.transcript and HELD_OUT_S[0] <= one.duration_s <= HELD_OUT_S[1]]
    chosen: list[Recording] = []
    left = sum(speech_of(one) for one in recordings)
    for recording in sorted(fit, key=lambda one: one.sha256)[:MOST_HELD_OUT]:
        if left - speech_of(recording) < min_speech_s:
            break
        left -= speech_of(recording)
        chosen.append(recording)
    return frozenset(one.id for one in chosen)


def speech_of(recording: Recording) -> float:
    """Seconds of speech by the check at intake; the whole length when it was not measured."""
    measured = recording.report.get("measures", {}).get("speech_s")
    return float(recording.duration_s if measured is None else measured)


def _as_clip(recording: Recording) -> JsonDict:
    return {
        "recording": recording.id,
        "sha256": recording.sha256,
        "transcript": recording.transcript,
        "language": recording.language,
        "duration_s": round(recording.duration_s, 3),
    }


def _statistics(recordings: Sequence[Recording]) -> JsonDict:
    measured = [recording.report.get("measures", {}).get("snr_db") for recording in recordings]
    ratios = sorted(float(ratio) for ratio in measured if ratio is not None)
    return {
        "clips": len(recordings),
        "seconds": round(sum(recording.duration_s for recording in recordings), 3),
        "speech_s": round(sum(speech_of(recording) for recording in recordings), 3),
        "languages": sorted({recording.language for recording in recordings if recording.language}),
        "labelled": sum(bool(recording.transcript) for recording in recordings),
        "snr_db": {"min": ratios[0], "median": ratios[len(ratios) // 2], "max": ratios[-1]} if ratios else None,
    }


def derive_clips(
    clips: Sequence[JsonDict], folder: Path, language: str, max_duration_s: float, rate: int = SAMPLE_RATE
) -> tuple[Clip, ...]:
    """Write what is missing of the derived clips under `folder`; what an interrupted run finished is taken over.

    `rate` (Hz) is the engine's; `language` other than "auto" stands for every clip. Raises Corrupt("blob_corrupt") and
    what decoding raises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_derive_clip(clip, folder, language, max_duration_s, rate) for clip in clips)


def _derive_clip(clip: JsonDict, folder: Path, language: str, max_duration_s: float, rate: int) -> Clip:
    target = folder / f"{clip['recording']}.wav"
    if not target.is_file():
        content = Path(clip["path"]).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != clip["sha256"]:
            raise Corrupt("blob_corrupt", digest=clip["sha256"], found=found)
        audio = mono_at(read_audio(content, max_duration_s=max_duration_s), rate)
        write_wav(target, derive(audio, is_denoised=clip["derivation"] == DENOISED))
    spoken = clip["language"] if language == "auto" else language
    return Clip(clip["recording"], target, clip["transcript"], spoken or "auto")


def derive(audio: Audio, *, is_denoised: bool = False) -> Audio:
    """Trim silence at both ends and level; sound in which no speech is found keeps its length."""
    from appliance.audio.denoise import denoise
    from appliance.audio.loudness import bring_to
    from appliance.audio.speech_activity import find_speech

    audio = denoise(audio) if is_denoised else audio
    samples = audio.samples
    if segments := find_speech(audio).segments:
        first = max(0, int((segments[0][0] - MARGIN_S) * audio.sample_rate))
        last = int((segments[-1][1] + MARGIN_S) * audio.sample_rate)
        samples = samples[first:last]
    return Audio(bring_to(samples, audio.sample_rate, CLIP_LUFS, CLIP_CEILING_DBFS), audio.sample_rate)
