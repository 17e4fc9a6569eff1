"""The examination before a voice goes into production: what is heard of it, and how much it is the speaker.

A candidate and the starter voice it grew from say the same held-out sentences. A recogniser writes down what it hears;
likeness, quality and pitch are judged by measures that no training loss knows. Where something cannot be measured, the
figure is null and a person has to decide.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from appliance.audio.dnsmos import rate
from appliance.audio.files import write_wav
from appliance.audio.likeness import Likeness
from appliance.audio.loudness import integrated_lufs
from appliance.audio.noise import clipped_share
from appliance.audio.pitch import pitch_statistics, track_pitch
from appliance.contracts import Audio, Engine, JsonDict, Reason, SpeakTask, Transcriber, VoiceAssets
from appliance.errors import InvalidInput, Unavailable, VoicedError
from appliance.jobs.hearing import Heard, hear
from appliance.jobs.sentences import BACKGROUND, MIXED, SENTENCES, Sentence
from appliance.settings import CloneSettings

T = TypeVar("T")
log = logging.getLogger(__name__)

PASSED, FAILED, NEEDS_PERSON = "passed", "failed", "needs_person"
MAX_CLIPPED_SHARE = 0.001
FIT_SHARE = 2 / 3  # of the speaker's sound, for the model of the voice; the rest shows how alike the speaker is to that


@dataclass(frozen=True)
class Candidates:
    """Who speaks in an examination."""

    clone: VoiceAssets
    base: VoiceAssets | None  # the starter voice that the clone grew from
    others: tuple[VoiceAssets, ...]  # other starter voices


@dataclass(frozen=True)
class Outcome:
    """The report (JSON), the sound of each sentence by role ("exam:0", "exam:base:0"), and the clone's loudness."""

    report: JsonDict
    files: dict[str, Path]
    lufs: float | None

    @property
    def verdict(self) -> str:
        return str(self.report["verdict"])


@dataclass
class _Spoken:
    """What one voice said, by number of the sentence; what it could not say, with the reason."""

    audio: dict[int, Audio] = field(default_factory=dict)
    heard: dict[int, Heard] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def joined(self) -> Audio | None:
        if not self.audio:
            return None
        parts = [audio.samples for _, audio in sorted(self.audio.items())]
        return Audio(np.concatenate(parts), next(iter(self.audio.values())).sample_rate)


class Examination:
    """One examination; `tell` hears how far it is, 0 .. 1."""

    def __init__(
        self, engine: Engine, transcriber: Transcriber | None, limits: CloneSettings, tell: Callable[[float], None]
    ) -> None:
        self._engine = engine
        self._transcriber = transcriber
        self._limits = limits
        self._tell = tell
        self._steps_done = 0
        self._steps = 1

    def run(self, candidates: Candidates, speaker: Sequence[Audio], folder: Path, seed: int) -> Outcome:
        """Let all speak, judge, and write the WAVs under `folder`. `speaker` is real speech of the speaker."""
        folder.mkdir(parents=True, exist_ok=True)
        starters = ((candidates.base,) if candidates.base else ()) + candidates.others
        listening = 2 if self._transcriber else 1
        examined = 2 if candidates.base else 1
        self._steps = examined * len(SENTENCES) * listening + len(starters) * len(BACKGROUND) + 1
        clone = self._question(candidates.clone, seed)
        base = self._question(candidates.base, seed) if candidates.base else None
        background = [self._speak_all(voice, BACKGROUND, seed).joined() for voice in starters]
        summary = self._summarise(clone, base, [sound for sound in background if sound], speaker)
        files = _write_sounds(folder, clone, base)
        report = self._report(clone, base, summary)
        self._step()
        spoken = clone.joined()
        return Outcome(report, files, integrated_lufs(spoken.samples, spoken.sample_rate) if spoken else None)

    def _question(self, voice: VoiceAssets, seed: int) -> _Spoken:
        spoken = self._speak_all(voice, SENTENCES, seed)
        if self._transcriber:
            for number, audio in spoken.audio.items():
                spoken.heard[number] = hear(self._transcriber, audio, SENTENCES[number])
                self._step()
        return spoken

    def _speak_all(self, voice: VoiceAssets, sentences: Sequence[Sentence], seed: int) -> _Spoken:
        spoken = _Spoken()
        for number, sentence in enumerate(sentences):
            task = SpeakTask(sentence.text, voice, sentence.hint, seed=seed + number)
            try:
                chunks = [chunk.audio.samples for chunk in self._engine.speak(task, threading.Event())]
            except (InvalidInput, Unavailable) as error:  # a language that this box cannot read, for one
                spoken.errors[number] = error.code
            else:
                spoken.audio[number] = Audio(np.concatenate(chunks), self._engine.sample_rate)
            self._step()
        return spoken

    def _step(self) -> None:
        self._steps_done += 1
        self._tell(min(1.0, self._steps_done / self._steps))

    def _summarise(
        self, clone: _Spoken, base: _Spoken | None, background: list[Audio], speaker: Sequence[Audio]
    ) -> JsonDict:
        real = Audio(np.concatenate([audio.samples for audio in speaker]), speaker[0].sample_rate)
        cut = int(len(real.samples) * FIT_SHARE)
        model, rest = Audio(real.samples[:cut], real.sample_rate), Audio(real.samples[cut:], real.sample_rate)
        likeness = _attempt(lambda: Likeness(model, background)) if background else None
        summary = {
            "clone": _measure(clone.joined(), likeness) | _misheard(clone),
            "speaker": _measure(rest, likeness),
        }
        if base:
            summary["base"] = _measure(base.joined(), likeness) | _misheard(base)
        pitch = summary["speaker"]["f0_median_hz"]
        for row in summary.values():
            row["f0_drift_semitones"] = _drift(row["f0_median_hz"], pitch)
        return summary

    def _report(self, clone: _Spoken, base: _Spoken | None, summary: JsonDict) -> JsonDict:
        failures, unknown = judge(summary, self._limits)
        verdict = FAILED if failures else NEEDS_PERSON if unknown else PASSED
        return {
            "verdict": verdict,
            "passed": verdict == PASSED,
            "reasons": [{"code": one.code, "measured": one.measured} for one in (*failures, *unknown)],
            "summary": summary,
            "limits": {
                "max_wer": self._limits.max_wer,
                "min_dnsmos": self._limits.min_dnsmos,
                "max_pitch_drift": self._limits.max_pitch_drift,
                "max_clipped_share": MAX_CLIPPED_SHARE,
            },
            "transcriber": self._transcriber.name if self._transcriber else None,
            "sentences": [
                {
                    "number": number,
                    "language": sentence.language,
                    "text": sentence.text,
                    "clone": _row(clone, number),
                    "base": _row(base, number) if base else None,
                }
                for number, sentence in enumerate(SENTENCES)
            ],
        }


def judge(summary: JsonDict, limits: CloneSettings) -> tuple[list[Reason], list[Reason]]:
    """What speaks against the candidate, and what could not be measured."""
    clone, base = summary["clone"], summary.get("base")
    failures: list[Reason] = []
    unknown: list[Reason] = []

    def require(
        code: str, figure: float | None, is_fine: Callable[[float], bool], **measured: float | str | None
    ) -> None:
        if figure is None:
            unknown.append(Reason("exam_not_measured", {"measure": code.removeprefix("exam_")}))
        elif not is_fine(figure):
            failures.append(Reason(code, {"value": round(figure, 3), **measured}))

    for language in ("en", "zh"):
        errors = clone["error"][language]
        name = f"exam_misheard_{language}"
        require(name, errors, lambda value: value <= limits.max_wer, limit=limits.max_wer)
    require("exam_low_quality", clone["dnsmos"], lambda value: value >= limits.min_dnsmos, limit=limits.min_dnsmos)
    require("exam_clipped", clone["clipped_share"], lambda value: value <= MAX_CLIPPED_SHARE, limit=MAX_CLIPPED_SHARE)
    drift = limits.max_pitch_drift
    require("exam_pitch_drift", clone["f0_drift_semitones"], lambda value: abs(value) <= drift, limit=drift)
    if base:
        least = limits.min_likeness_gain
        require("exam_not_alike", _gain(base, clone, "llr"), lambda value: value >= least, limit=least)
        require("exam_not_nearer", _gain(clone, base, "mfcc_distance"), lambda value: value > 0.0)
    else:
        require("exam_not_alike", clone["llr"], lambda value: value > 0.0, limit=0.0)
    return failures, unknown


def _gain(before: JsonDict, after: JsonDict, figure: str) -> float | None:
    known = before[figure] is not None and after[figure] is not None
    return float(after[figure] - before[figure]) if known else None


def _measure(audio: Audio | None, likeness: Likeness | None) -> JsonDict:
    """Figures of joined speech of one voice; null for what cannot be measured."""
    row: JsonDict = dict.fromkeys(
        ("duration_s", "mfcc_distance", "llr", "llr_equalised", "dnsmos", "clipped_share", "f0_median_hz", "f0_spread")
    )
    if audio is None or len(audio.samples) == 0:
        return row
    row |= {"duration_s": round(audio.duration_s, 2), "clipped_share": clipped_share(audio.samples)}
    if likeness and (score := _attempt(lambda: likeness.score(audio))):
        row |= score.as_json()
    if rating := _attempt(lambda: rate(audio)):
        row["dnsmos"] = round(rating.ovrl, 2)
    if pitch := _attempt(lambda: pitch_statistics(track_pitch(audio))):
        row |= {"f0_median_hz": round(pitch.median_hz, 1), "f0_spread": round(pitch.spread_semitones, 2)}
    return row


def _attempt(measure: Callable[[], T]) -> T | None:
    """The figure, or None where the sound or the box does not allow it (too short, no model, no pitch)."""
    try:
        return measure()
    except VoicedError as error:
        log.info("not measured: %s", error)
        return None


def _misheard(spoken: _Spoken) -> JsonDict:
    """Share of what was misheard, by language; null where nothing was judged or a sentence could not be said."""
    errors: JsonDict = {}
    for language in ("en", "zh", MIXED):
        numbers = [number for number, sentence in enumerate(SENTENCES) if sentence.language == language]
        rates = [spoken.heard[number].error for number in numbers if number in spoken.heard]
        errors[language] = round(sum(rates) / len(rates), 4) if len(rates) == len(numbers) else None
    return {"error": errors}


def _drift(pitch_hz: float | None, speaker_hz: float | None) -> float | None:
    if pitch_hz is None or speaker_hz is None:
        return None
    return round(12.0 * math.log2(pitch_hz / speaker_hz), 2)


def _row(spoken: _Spoken, number: int) -> JsonDict:
    audio, heard = spoken.audio.get(number), spoken.heard.get(number)
    return {
        "heard": heard.text if heard else None,
        "error": round(heard.error, 4) if heard else None,
        "duration_s": round(audio.duration_s, 2) if audio else None,
        "clipped_share": clipped_share(audio.samples) if audio else None,
        "refused": spoken.errors.get(number),
    }


def _write_sounds(folder: Path, clone: _Spoken, base: _Spoken | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for prefix, spoken in (("exam", clone), ("exam:base", base)):
        for number, audio in spoken.audio.items() if spoken else ():
            path = folder / f"{prefix.replace(':', '-')}-{number}.wav"
            write_wav(path, audio)
            files[f"{prefix}:{number}"] = path
    return files
