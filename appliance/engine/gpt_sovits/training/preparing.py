"""From the clips of a task to files of features, and to the clip that the finished voice refers to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from appliance.contracts import Audio, Clip, JsonDict
from appliance.engine.gpt_sovits.pairing import LONGEST_S, SHORTEST_S
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE
from appliance.engine.gpt_sovits.training.clips import fault_of, read_features, write_clip
from appliance.engine.gpt_sovits.training.listening import Ears
from appliance.errors import InvalidInput, Unavailable

BEST_REFERENCE_S = 6.0
GAP_S = 0.3  # between clips that are joined
MARGIN_S = 0.2  # that a reference is longer than the shortest, shorter than the longest
ReadClip = Callable[[Path], Audio]


@dataclass(frozen=True)
class Prepared:
    """A clip that is trained on."""

    clip: Clip
    features: Path
    seconds: float


@dataclass(frozen=True)
class LeftOut:
    """A clip that is not, and why."""

    clip: str
    code: str
    measured: JsonDict

    def as_json(self) -> JsonDict:
        return {"clip": self.clip, "code": self.code, "measured": self.measured}


class Preparation:
    """Features of clips in `folder`, one file each; what an earlier run made or refused is taken over."""

    def __init__(self, folder: Path, read: ReadClip) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._read = folder, read

    def run(
        self, clips: Sequence[Clip], make_ears: Callable[[], Ears], tell: Callable[[float], None]
    ) -> tuple[list[Prepared], list[LeftOut]]:
        """`make_ears` is called only where something is still to be heard; `tell` hears 0 .. 1.

        Raises InvalidInput("training_nothing_usable"), Unavailable where a front end or a network is missing.
        """
        ears: Ears | None = None
        for number, clip in enumerate(clips):
            if not self._is_known(number):
                ears = ears or make_ears()
                self._hear(number, clip, ears)
            tell((number + 1) / len(clips))
        found = [(number, clip) for number, clip in enumerate(clips) if self._features(number).is_file()]
        refused = [self._refusal(number, clip) for number, clip in enumerate(clips) if self._fault(number).is_file()]
        if not found:
            raise InvalidInput("training_nothing_usable", clips=len(clips), reasons=_counted(refused))
        return [self._prepared(number, clip) for number, clip in found], refused

    def _hear(self, number: int, clip: Clip, ears: Ears) -> None:
        target = self._features(number)
        unjudged = target.with_suffix(".unjudged")
        try:
            audio = self._read(clip.path)
            write_clip(unjudged, ears.listen(audio.samples, audio.sample_rate, clip.transcript, clip.language))
            fault, measured = fault_of(unjudged), dict[str, object]()
        except InvalidInput as error:
            fault, measured = error.code, error.measured
        if fault:
            unjudged.unlink(missing_ok=True)
            partial = self._fault(number).with_suffix(".part")
            partial.write_text(json.dumps({"code": fault, "measured": measured}), "utf-8")
            partial.replace(self._fault(number))
        else:
            unjudged.replace(target)

    def _is_known(self, number: int) -> bool:
        return self._features(number).is_file() or self._fault(number).is_file()

    def _features(self, number: int) -> Path:
        return self._folder / f"{number:05d}.safetensors"

    def _fault(self, number: int) -> Path:
        return self._folder / f"{number:05d}.fault"

    def _refusal(self, number: int, clip: Clip) -> LeftOut:
        row = json.loads(self._fault(number).read_text("utf-8"))
        return LeftOut(clip.recording_id, row["code"], row["measured"])

    def _prepared(self, number: int, clip: Clip) -> Prepared:
        with safe_open(self._features(number), "pt") as file:
            samples = file.get_slice("waveform").get_shape()[0]
        return Prepared(clip, self._features(number), samples / SAMPLE_RATE)


def _counted(refused: Sequence[LeftOut]) -> str:
    return ", ".join(f"{code} ×{count}" for code, count in Counter(one.code for one in refused).most_common())


@dataclass(frozen=True)
class Reference:
    """What the finished voice refers to."""

    sound: Tensor  # (S,) at 32 kHz, as the networks heard it in training
    transcript: str  # empty where the words of this stretch are not known: then its timbre alone is used
    language: str


def choose_reference(clips: Sequence[Prepared]) -> Reference:
    """The clip whose length suits best; else short ones joined; else the beginning of a long one.

    Raises InvalidInput("training_reference_missing") where all clips together are too short.
    """
    least, most = SHORTEST_S + MARGIN_S, LONGEST_S - MARGIN_S
    suitable = [one for one in clips if least <= one.seconds <= most]
    if suitable:
        return _whole([min(suitable, key=lambda one: (abs(one.seconds - BEST_REFERENCE_S), one.features.name))])
    joined: list[Prepared] = []
    for one in (one for one in clips if one.seconds < least):
        joined.append(one)
        seconds = sum(part.seconds + GAP_S for part in joined)
        if least <= seconds <= most and len({part.clip.language for part in joined}) == 1:
            return _whole(joined)
    longest = max(clips, key=lambda one: one.seconds)
    if longest.seconds < least:
        raise InvalidInput("training_reference_missing", longest_s=round(longest.seconds, 2), shortest_s=SHORTEST_S)
    sound = _waveform(longest)[: int(most * SAMPLE_RATE)]
    return Reference(sound, "", longest.clip.language)


def _whole(clips: Sequence[Prepared]) -> Reference:
    gap = torch.zeros(int(GAP_S * SAMPLE_RATE))
    parts = [part for one in clips for part in (_waveform(one), gap)]
    words = " ".join(one.clip.transcript.strip() for one in clips)
    return Reference(torch.cat(parts[:-1]), words, clips[0].clip.language)


def _waveform(clip: Prepared) -> Tensor:
    return read_features(clip.features, ("waveform",))["waveform"]


def require_base(base: Mapping[str, Path], roles: Sequence[str], titles: Mapping[str, str]) -> None:
    """Raises Unavailable("model_file_missing")."""
    for role in roles:
        if role not in base or not base[role].is_file():
            raise Unavailable("model_file_missing", role=role, title=titles.get(role, role))
