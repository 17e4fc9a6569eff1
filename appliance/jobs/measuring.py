"""What is measured of a voice in its examination, against real speech of the speaker and against other voices.

The log-likelihood ratio and the spectral distance are known to no training loss; the cosine of the speaker encoder is
part of the embedded engine's and counts less. Every figure is null where the sound or the box does not allow it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

import numpy as np

from appliance.audio.dnsmos import rate
from appliance.audio.likeness import Likeness
from appliance.audio.noise import clipped_share
from appliance.audio.pitch import pitch_statistics, track_pitch
from appliance.audio.speakers import know_speaker, speaker_cosine
from appliance.audio.speaking_rate import speaking_rate
from appliance.contracts import Audio, JsonDict
from appliance.errors import VoicedError
from appliance.jobs.hearing import Heard
from appliance.jobs.sentences import MIXED, Sentence

T = TypeVar("T")
log = logging.getLogger(__name__)

FIT_SHARE = 2 / 3  # of the speaker's sound, for the model of the voice; the rest shows how alike the speaker is to that
FIGURES = (
    *("duration_s", "mfcc_distance", "llr", "llr_equalised", "speaker_cosine", "dnsmos", "clipped_share"),
    *("f0_median_hz", "f0_spread"),
)


@dataclass
class Spoken:
    """What one voice said, by number of the sentence; what it could not say, with the reason."""

    audio: dict[int, Audio] = field(default_factory=dict)
    heard: dict[int, Heard] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)

    def joined(self) -> Audio | None:
        return join([audio for _, audio in sorted(self.audio.items())])


@dataclass(frozen=True)
class Speaker:
    """Real speech of the person: what models the voice, and what it never saw, with its words where they are known."""

    model: Audio
    rest: Audio
    held_out: tuple[tuple[Sentence, Audio], ...] = ()  # clips that were kept from the training
    labelled: tuple[tuple[Sentence, Audio], ...] = ()  # clips with their words


def hear_speaker(trained: Sequence[Audio], held_out: Sequence[Audio]) -> tuple[Audio, Audio]:
    """(model, rest): what was held out is the rest; where nothing was, the last third of all."""
    real = join(trained)
    if real is None:
        raise ValueError("no sound of the speaker")
    rest = join(held_out)
    if rest is not None:
        return real, rest
    cut = int(len(real.samples) * FIT_SHARE)
    return Audio(real.samples[:cut], real.sample_rate), Audio(real.samples[cut:], real.sample_rate)


def join(parts: Sequence[Audio]) -> Audio | None:
    """All one after the other; None of nothing."""
    if not parts:
        return None
    return Audio(np.concatenate([part.samples for part in parts]), parts[0].sample_rate)


class Yardstick:
    """The speaker and other voices, measured once; then any voice against them."""

    def __init__(self, speaker: Speaker, background: Sequence[Audio]) -> None:
        self._known = attempt(lambda: know_speaker([speaker.model]))
        self._likeness = attempt(lambda: Likeness(speaker.model, background)) if background else None
        self.real = self._measure(speaker.rest) | {"rate": _rates(speaker.labelled)}
        others = [self._cosine(sound) for sound in background]
        known = [cosine for cosine in others if cosine is not None]
        self.others: JsonDict = {"speaker_cosine": max(known) if known else None}

    def measure(self, spoken: Spoken, sentences: Sequence[Sentence]) -> JsonDict:
        """The summary of one voice."""
        said = [(sentences[number], audio) for number, audio in sorted(spoken.audio.items())]
        row = self._measure(spoken.joined()) | {"rate": _rates(said)} | _hearing(spoken, sentences)
        row["f0_drift_semitones"] = _semitones(row["f0_median_hz"], self.real["f0_median_hz"])
        row["rate_drift"] = _rate_drift(row["rate"], self.real["rate"])
        return row

    def closeness(self, voice: JsonDict, base: JsonDict | None) -> float | None:
        """How far a voice has come from the one it grew from (0) to the speaker's own level (1), by likelihood."""
        start = 0.0 if base is None else base["llr"]
        if None in (voice["llr"], start, self.real["llr"]) or self.real["llr"] <= start:
            return None
        return round(float((voice["llr"] - start) / (self.real["llr"] - start)), 3)

    def _measure(self, audio: Audio | None) -> JsonDict:
        row: JsonDict = dict.fromkeys(FIGURES)
        if audio is None or len(audio.samples) == 0:
            return row
        row |= {"duration_s": round(audio.duration_s, 2), "clipped_share": clipped_share(audio.samples)}
        likeness = self._likeness
        if likeness and (score := attempt(lambda: likeness.score(audio))):
            row |= score.as_json()
        row["speaker_cosine"] = self._cosine(audio)
        if rating := attempt(lambda: rate(audio)):
            row["dnsmos"] = round(rating.ovrl, 2)
        if pitch := attempt(lambda: pitch_statistics(track_pitch(audio))):
            row |= {"f0_median_hz": round(pitch.median_hz, 1), "f0_spread": round(pitch.spread_semitones, 2)}
        return row

    def _cosine(self, audio: Audio) -> float | None:
        cosine = attempt(lambda: speaker_cosine(audio, self._known))
        return None if cosine is None else round(cosine, 3)


def attempt(measure: Callable[[], T]) -> T | None:
    """The figure, or None where the sound or the box does not allow it (too short, no model, no pitch)."""
    try:
        return measure()
    except VoicedError as error:
        log.info("not measured: %s", error)
        return None


def _rates(said: Sequence[tuple[Sentence, Audio]]) -> dict[str, float]:
    """Syllables per second by language, of single languages only."""
    rates: dict[str, list[float]] = {}
    for sentence, audio in said:
        rate_of = attempt(lambda audio=audio, sentence=sentence: speaking_rate(audio, sentence.text))  # type: ignore[misc]
        if rate_of is not None and sentence.language != MIXED:
            rates.setdefault(sentence.language, []).append(rate_of)
    return {language: round(fmean(found), 2) for language, found in rates.items()}


def _rate_drift(rates: JsonDict, real: JsonDict) -> float | None:
    """How much faster (> 0) or slower than the speaker, as a share, in the languages that both speak."""
    shared = rates.keys() & real.keys()
    return round(fmean(rates[one] / real[one] - 1.0 for one in shared), 3) if shared else None


def _semitones(pitch_hz: float | None, speaker_hz: float | None) -> float | None:
    if pitch_hz is None or speaker_hz is None:
        return None
    return round(12.0 * math.log2(pitch_hz / speaker_hz), 2)


def _hearing(spoken: Spoken, sentences: Sequence[Sentence]) -> JsonDict:
    """What was misheard, dropped and repeated; null where nothing was judged or a sentence could not be said."""
    row: JsonDict = {"error": {}, "cer": {}, "dropped_share": None, "repeated": None}
    for language in ("en", "zh", MIXED):
        numbers = [number for number, sentence in enumerate(sentences) if sentence.language == language]
        heard = [spoken.heard[number] for number in numbers if number in spoken.heard]
        is_whole = bool(numbers) and len(heard) == len(numbers)
        row["error"][language] = round(fmean(one.error for one in heard), 4) if is_whole else None
        row["cer"][language] = round(fmean(one.character_error for one in heard), 4) if is_whole else None
    if spoken.heard:
        faults = [one.faults for one in spoken.heard.values()]
        row["dropped_share"] = round(sum(one.dropped for one in faults) / max(1, sum(one.units for one in faults)), 4)
        row["repeated"] = sum(one.repeated for one in faults)
    return row
