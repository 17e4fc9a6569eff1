"""The examination before a voice goes into production: what is heard of it, and how much it is the speaker.

A candidate and the starter voice it grew from say the same sentences: a fixed set that nothing trains on, and the lines
of clips that were held out. A recogniser writes down what it hears; likeness, quality, pitch and pace are measured
(`measuring`), the verdict is in `verdict`. Where something cannot be measured, the figure is null and a person has to
decide.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.audio.files import write_wav
from appliance.audio.loudness import integrated_lufs
from appliance.audio.noise import clipped_share
from appliance.audio.pictures import spectrogram_png
from appliance.contracts import Audio, Engine, JsonDict, SpeakTask, Transcriber, VoiceAssets
from appliance.errors import InvalidInput, Unavailable
from appliance.jobs.hearing import hear
from appliance.jobs.measuring import Speaker, Spoken, Yardstick
from appliance.jobs.sentences import BACKGROUND, SENTENCES, Sentence
from appliance.jobs.verdict import PASSED, Standing, choose_best, judge, limits_as_json, verdict_of
from appliance.settings import CloneSettings

PICTURE_WIDTH = 480  # pixels


@dataclass(frozen=True)
class Candidates:
    """Who speaks in an examination."""

    clones: tuple[VoiceAssets, ...]  # states of one training, oldest first; the best one is chosen
    base: VoiceAssets | None  # the starter voice that they grew from
    others: tuple[VoiceAssets, ...]  # other starter voices


@dataclass(frozen=True)
class Outcome:
    """Which candidate was chosen, its report (JSON), sounds and pictures by role ("exam:0", …), and its loudness."""

    chosen: int
    report: JsonDict
    files: dict[str, Path]
    lufs: float | None

    @property
    def verdict(self) -> str:
        return str(self.report["verdict"])


@dataclass(frozen=True)
class _Sat:
    """One candidate after its examination."""

    spoken: Spoken
    summary: JsonDict
    standing: Standing
    reasons: tuple[JsonDict, ...]


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
        self._sentences: tuple[Sentence, ...] = SENTENCES

    def run(self, candidates: Candidates, speaker: Speaker, folder: Path, seed: int) -> Outcome:
        """Let all speak, judge, choose, and write WAVs and PNGs under `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._sentences = (*SENTENCES, *(sentence for sentence, _ in speaker.held_out))
        starters = ((candidates.base,) if candidates.base else ()) + candidates.others
        listening = 2 if self._transcriber else 1
        examined = len(candidates.clones) + bool(candidates.base)
        self._steps = examined * len(self._sentences) * listening + len(starters) * len(BACKGROUND) + 1
        sounds = [self._speak_all(voice, BACKGROUND, seed).joined() for voice in starters]
        yardstick = Yardstick(speaker, [sound for sound in sounds if sound])
        base = self._question(candidates.base, seed) if candidates.base else None
        measured = yardstick.measure(base, self._sentences) if base else None
        sat = [self._examine(voice, yardstick, measured, seed) for voice in candidates.clones]
        chosen = choose_best([one.standing for one in sat])
        files = _write_evidence(folder, sat[chosen].spoken, base, speaker)
        self._step()
        joined = sat[chosen].spoken.joined()
        lufs = integrated_lufs(joined.samples, joined.sample_rate) if joined else None
        return Outcome(chosen, self._report(sat, chosen, base, speaker), files, lufs)

    def _examine(self, voice: VoiceAssets, yardstick: Yardstick, base: JsonDict | None, seed: int) -> _Sat:
        spoken = self._question(voice, seed)
        clone = yardstick.measure(spoken, self._sentences)
        summary: JsonDict = {"clone": clone, "speaker": yardstick.real, "others": yardstick.others}
        summary["closeness"] = yardstick.closeness(clone, base)
        if base:
            summary["base"] = base
        failures, unknown = judge(summary, self._limits)
        standing = Standing.of(verdict_of(failures, unknown), summary)
        reasons = tuple({"code": one.code, "measured": one.measured} for one in (*failures, *unknown))
        return _Sat(spoken, summary, standing, reasons)

    def _question(self, voice: VoiceAssets, seed: int) -> Spoken:
        spoken = self._speak_all(voice, self._sentences, seed)
        if self._transcriber:
            for number, audio in spoken.audio.items():
                spoken.heard[number] = hear(self._transcriber, audio, self._sentences[number])
                self._step()
        return spoken

    def _speak_all(self, voice: VoiceAssets, sentences: Sequence[Sentence], seed: int) -> Spoken:
        spoken = Spoken()
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

    def _report(self, sat: Sequence[_Sat], chosen: int, base: Spoken | None, speaker: Speaker) -> JsonDict:
        best = sat[chosen]
        held_out = len(SENTENCES)
        rows = [
            {
                "number": number,
                "language": sentence.language,
                "text": sentence.text,
                "is_held_out": number >= held_out,
                "clone": _row(best.spoken, number),
                "base": _row(base, number) if base else None,
            }
            for number, sentence in enumerate(self._sentences)
        ]
        return {
            "verdict": best.standing.verdict,
            "passed": best.standing.verdict == PASSED,
            "reasons": list(best.reasons),
            "summary": best.summary,
            "limits": limits_as_json(self._limits),
            "transcriber": self._transcriber.name if self._transcriber else None,
            "chosen": chosen,
            "candidates": [
                {"verdict": one.standing.verdict, "merit": one.standing.merit, "measured": one.summary["clone"]}
                for one in sat
            ],
            "sentences": rows,
        }


def _row(spoken: Spoken, number: int) -> JsonDict:
    audio, heard = spoken.audio.get(number), spoken.heard.get(number)
    return {
        "heard": heard.text if heard else None,
        "error": round(heard.error, 4) if heard else None,
        "character_error": round(heard.character_error, 4) if heard else None,
        "dropped": heard.faults.dropped if heard else None,
        "repeated": heard.faults.repeated if heard else None,
        "duration_s": round(audio.duration_s, 2) if audio else None,
        "clipped_share": clipped_share(audio.samples) if audio else None,
        "refused": spoken.errors.get(number),
    }


def _write_evidence(folder: Path, clone: Spoken, base: Spoken | None, speaker: Speaker) -> dict[str, Path]:
    """Sounds by role, each with its picture: "exam:0" and "exam:picture:0", "exam:base:0", "exam:real:8"."""
    real = {len(SENTENCES) + number: audio for number, (_, audio) in enumerate(speaker.held_out)}
    files: dict[str, Path] = {}
    for group, sounds in (("", clone.audio), ("base:", base.audio if base else {}), ("real:", real)):
        for number, audio in sounds.items():
            name = f"{group}{number}"
            stem = folder / f"exam-{name.replace(':', '-')}"
            files[f"exam:{name}"], files[f"exam:picture:{name}"] = stem.with_suffix(".wav"), stem.with_suffix(".png")
            write_wav(stem.with_suffix(".wav"), audio)
            stem.with_suffix(".png").write_bytes(spectrogram_png(audio, PICTURE_WIDTH))
    return files
