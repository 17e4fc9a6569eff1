"""The sentences a clone learns from: which starter voice speaks them, and what it makes of them before it learns.

The nearest starter is chosen by pitch, then by ear (the speaker encoder). It plans every lesson; the planned pitch is
moved to the target's; what is heard of that is the shape that the fit must keep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliance.audio.pitch import PitchStatistics, pitch_statistics, track_pitch
from appliance.audio.speaker_embedding import likeness_cosine, load_speaker_encoder, prepare
from appliance.contracts import Audio, JsonDict, TextFrontend
from appliance.engine.embedded import assets
from appliance.engine.embedded.fit import (
    FitSettings,
    Lesson,
    LogMel,
    Target,
    long_term_colour,
    precision_context,
    shape_over_time,
)
from appliance.engine.embedded.network import Features, Network
from appliance.engine.embedded.phrases import analyse_text, encode_phrase
from appliance.engine.embedded.pipeline import SAMPLE_RATE, make_noise
from appliance.engine.embedded.speaker_encoder import load_speaker_encoder as load_learning_encoder
from appliance.engine.embedded.voice import VOICED_FLOOR_HZ, EmbeddedVoice, F0Warp
from appliance.errors import Unavailable

TIMBRE_ROW = 60  # the row of a pack whose timbre a clone starts from: that of a sentence of middle length
# How far the liveliness of the pitch may be changed. Never below the starter's: a reader's flat English would flatten
# the tones of Chinese as well (measured: 17 % instead of 15 % of syllables misheard).
SCALE_RANGE = (1.0, 1.25)
FAR_SEMITONES = 7.0  # a starter this much further in pitch than the nearest is not auditioned

# Short, so that each is spoken whole; together they hold nearly every phone of both languages.
LESSONS: tuple[tuple[str, str], ...] = (
    ("en", "The old house stood on a hill."),
    ("zh", "今天下午有一点小雨。"),
    ("en", "Please call me back before noon."),
    ("zh", "请大家往前面走一走。"),
    ("en", "She bought fresh fish and bread."),
    ("zh", "商场晚上九点钟关门。"),
    ("en", "We just joined a huge new group."),
    ("zh", "他从北京坐火车回来。"),
    ("en", "Thank you, that was very kind."),
    ("zh", "谢谢您的光临，再见。"),
    ("en", "The boys enjoyed their long vacation."),
    ("zh", "这双红色的鞋子特别好看。"),
    ("en", "How much does this yellow chair cost?"),
    ("zh", "孩子们在公园里玩耍。"),
    ("en", "Our shop closes at eight tonight."),
    ("zh", "老师让学生安静下来。"),
    ("en", "He took a good look at the book."),
    ("zh", "欢迎使用自助服务。"),
    ("en", "A quick brown fox jumped over."),
    ("zh", "我需要三百二十块钱。"),
    ("en", "Choose the red one, not the green."),
    ("zh", "云南的风景非常美丽。"),
    ("en", "Usually the train leaves at three."),
    ("zh", "把门窗都关好了吗？"),
)
AUDITION = 2  # lessons each starter speaks when the nearest is sought


@dataclass(frozen=True)
class Person:
    """What is measured of the target's recordings."""

    audio: Audio  # 24 kHz
    pitch: PitchStatistics
    embedding: NDArray[np.float32]  # (256,)

    @classmethod
    def hear(cls, audio: Audio) -> Person:
        """Raises InvalidInput (speech_too_short, speech_unvoiced)."""
        return cls(audio, pitch_statistics(track_pitch(audio)), load_speaker_encoder().embed(audio))


@dataclass(frozen=True)
class Lessons:
    """All that the fit needs, and what becomes the voice's settings."""

    base: str
    warp: F0Warp
    style: Tensor  # (1, 128) the starter's timbre
    target: Target
    lessons: list[Lesson]
    cosine_before: float


@dataclass(frozen=True)
class Studio:
    """The network and the sentences it can be asked to speak."""

    network: Network
    settings: FitSettings
    frontends: Mapping[str, TextFrontend]

    def sentences(self) -> list[NDArray[np.int64]]:
        """Token ids of the lessons in the languages this box can read. Raises Unavailable("frontend_missing")."""
        vocabulary = assets.read_vocabulary()
        readable = [(language, text) for language, text in LESSONS if language in self.frontends]
        if not readable:
            raise Unavailable("frontend_missing", language="en, zh")
        lessons = readable[: self.settings.lessons]
        phrases = [analyse_text(text, language, self.frontends) for language, text in lessons]
        return [encode_phrase(phrase, vocabulary) for phrase in phrases]

    def plan(self, voice: EmbeddedVoice, tokens: NDArray[np.int64]) -> Features:
        """Durations, pitch and energy; the pitch as the starter has it."""
        _, prosody = voice.style(tokens.shape[1] - 2)
        with torch.inference_mode(False), torch.no_grad():
            return self.network.front(torch.from_numpy(tokens), torch.from_numpy(prosody.copy()))

    def speak(self, features: Features, style: Tensor, noise: Tensor) -> Tensor:
        with torch.no_grad(), precision_context(self.settings.precision):
            return self.network.decode(features, style, noise).float()


def choose_starter(studio: Studio, person: Person) -> tuple[str, float]:
    """The nearest starter voice and its cosine: by pitch first (cheap), then by the speaker encoder on two lessons."""
    encoder = load_speaker_encoder()
    tokens = studio.sentences()[:AUDITION]
    voices = {name: EmbeddedVoice(pack) for name, pack in assets.read_packs().items()}
    plans = {name: [studio.plan(voice, row) for row in tokens] for name, voice in voices.items()}
    away = {
        name: abs(12 * math.log2(base_pitch(plan)[0] / person.pitch.median_hz)) for name, plan in plans.items()
    }  # semitones
    scores: dict[str, tuple[float, float]] = {}
    for name, voice in voices.items():
        if away[name] > min(away.values()) + FAR_SEMITONES:
            continue
        style = _timbre(voice)
        heard = [studio.speak(plan, style, _noise(plan.f0_hz, index)) for index, plan in enumerate(plans[name])]
        cosine = likeness_cosine(encoder.embed(Audio(torch.cat(heard, 1)[0].numpy(), SAMPLE_RATE)), person.embedding)
        scores[name] = (cosine - 0.01 * away[name], cosine)
    best = max(scores, key=lambda name: scores[name][0])
    return best, scores[best][1]


def base_pitch(plans: list[Features]) -> tuple[float, float]:
    """Median in Hz and spread in semitones of what the network plans to speak."""
    f0 = torch.cat([plan.f0_hz[0] for plan in plans]).numpy()
    statistics = pitch_statistics(np.where(f0 > VOICED_FLOOR_HZ, f0, 0.0))
    return statistics.median_hz, statistics.spread_semitones


def make_lessons(seed: int, studio: Studio, person: Person, starter: tuple[str, float]) -> Lessons:
    """Plan every lesson in the starter's voice, move its pitch to the person's, note its shape before learning."""
    base, cosine = starter
    voice = EmbeddedVoice(assets.read_packs()[base])
    plans = [studio.plan(voice, tokens) for tokens in studio.sentences()]
    median, spread = base_pitch(plans)
    warp = F0Warp(median, person.pitch.median_hz, float(np.clip(person.pitch.spread_semitones / spread, *SCALE_RANGE)))
    style, log_mel = _timbre(voice), LogMel(SAMPLE_RATE)
    lessons, power = [], 0.0
    for index, plan in enumerate(plans):
        moved = plan._replace(f0_hz=torch.from_numpy(warp.apply(plan.f0_hz.numpy())))
        noise = _noise(moved.f0_hz, [seed, index])
        samples = studio.speak(moved, style, noise)
        lessons.append(Lesson(moved, noise, _speech_part(plan), shape_over_time(log_mel(samples))))
        power += float(samples.square().mean()) / len(plans)
    level = math.sqrt(power) / float(np.sqrt(np.mean(person.audio.samples**2)))
    colour = long_term_colour(log_mel(torch.from_numpy(person.audio.samples * np.float32(level))[None]))
    target = Target(torch.from_numpy(person.embedding), _encoder_states(person.audio), colour)
    return Lessons(base, warp, style, target, lessons, cosine)


def _encoder_states(audio: Audio, window_s: float = 2.0) -> Tensor:
    """(2, 256) statistics of the speaker encoder's states over the whole recording, in windows as long as a lesson."""
    speech = torch.from_numpy(prepare(audio))  # 16 kHz without pauses
    size = int(window_s * 16_000)
    windows = speech[: max(1, len(speech) // size) * size].reshape(-1, min(size, len(speech)))
    encoder = load_learning_encoder()
    with torch.no_grad():
        return encoder.listen_16k(windows)[1].mean(dim=0)


def _timbre(voice: EmbeddedVoice) -> Tensor:
    return torch.from_numpy(voice.style(TIMBRE_ROW)[0].copy())  # (1, 128)


def _noise(f0_hz: Tensor, seed: int | list[int]) -> Tensor:
    return torch.from_numpy(make_noise(f0_hz.numpy(), np.random.default_rng(seed)))


def _speech_part(plan: Features) -> slice:
    """Samples without the silence that the first and last token stand for."""
    frame = 600
    first, last = int(plan.durations[0, 0]), int(plan.durations[0, -1])
    return slice(first * frame, (int(plan.durations.sum()) - last) * frame)


def pack_lessons(lessons: Lessons) -> tuple[dict[str, Tensor], JsonDict]:
    tensors = {"style": lessons.style, **lessons.target._asdict()}
    for index, lesson in enumerate(lessons.lessons):
        row = {**lesson.features._asdict(), "noise": lesson.noise, "shape": lesson.shape}
        tensors |= {f"{index}/{name}": value for name, value in row.items()}
    record = {"base": lessons.base, "warp": asdict(lessons.warp), "cosine_before": lessons.cosine_before}
    return tensors, {**record, "count": len(lessons.lessons)}


def unpack_lessons(tensors: Mapping[str, Tensor], record: JsonDict) -> Lessons:
    lessons = []
    for index in range(int(record["count"])):
        plan = Features(*(tensors[f"{index}/{name}"] for name in Features._fields))
        lessons.append(Lesson(plan, tensors[f"{index}/noise"], _speech_part(plan), tensors[f"{index}/shape"]))
    target = Target(*(tensors[name] for name in Target._fields))
    return Lessons(record["base"], F0Warp(**record["warp"]), tensors["style"], target, lessons, record["cosine_before"])
