"""A minute of speech -> a voice of the embedded engine: choose the nearest starter voice, then fit its decoder.

The outcome is a style pack (the starter's, whose prosody half is kept), an adaptation (timbre and AdaIN biases, named
as in the ONNX graph), and the numbers of the pitch warp. `fit.py` holds the learning itself.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from appliance.audio.files import read_audio, resample, to_mono
from appliance.audio.pitch import PitchStatistics, pitch_statistics, track_pitch
from appliance.audio.speaker_embedding import likeness_cosine, prepare
from appliance.audio.speaker_embedding import load_speaker_encoder as load_reference_encoder
from appliance.contracts import AdaptedVoice, AdaptTask, Audio, EngineHost, JsonDict, Progress, TextFrontend
from appliance.engine.embedded import assets
from appliance.engine.embedded.fit import (
    STYLE,
    Fit,
    FitSettings,
    Lesson,
    LogMel,
    Target,
    long_term_colour,
    precision_context,
    read_tensors,
    shape_over_time,
    write_tensors,
)
from appliance.engine.embedded.network import Features, Network
from appliance.engine.embedded.phrases import analyse_text, encode_phrase
from appliance.engine.embedded.pipeline import make_noise
from appliance.engine.embedded.speaker_encoder import load_speaker_encoder
from appliance.engine.embedded.voice import TIMBRE, VOICED_FLOOR_HZ, EmbeddedVoice, F0Warp
from appliance.engine.embedded.weights import load_network
from appliance.errors import InvalidInput, Unavailable

SAMPLE_RATE = 24_000
MOST_SPEECH_S = 120.0  # more of the target is not read; a minute says it all
TIMBRE_ROW = 60  # the row of a pack whose timbre a clone starts from: that of a sentence of middle length
SCALE_RANGE = (0.8, 1.25)  # how far the liveliness of the pitch may be changed
FAR_SEMITONES = 7.0  # a starter this much further in pitch than the nearest is not auditioned
PREPARATION = 0.12  # share of the whole task

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

Report = Callable[[Progress], None]


def adapt(task: AdaptTask, host: EngineHost, report: Report) -> AdaptedVoice:
    """Make a voice from the clips of `task`, without transcripts. Resumes from `task.work_dir`.

    `task.options` may hold any field of `FitSettings` and "threads" (1). The same task gives the same voice, broken off
    or not, on one machine. Raises InvalidInput (adapt_option_invalid, speech_too_short, speech_unvoiced), Unavailable.
    """
    settings, threads = read_options(task.options)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    started = time.monotonic()
    task.work_dir.mkdir(parents=True, exist_ok=True)
    fingerprint = _fingerprint(task, settings)
    report(Progress("prepare", 0.0))
    network = load_network(assets.read_model())
    studio = _Studio(network, settings, host.frontends)
    lessons = _prepared_lessons(task, studio, fingerprint, report)
    fit = Fit(network, load_speaker_encoder(), lessons.style, settings)
    _run_fit(fit, lessons, task, fingerprint, report)
    fit.use_average()
    metrics = _measure(fit, lessons) | {"steps": fit.done, "seconds": round(time.monotonic() - started, 1)}
    return _write_outcome(fit, lessons, task.work_dir, metrics)


def read_options(options: JsonDict) -> tuple[FitSettings, int]:
    """Settings and thread count from a task's options. Raises InvalidInput("adapt_option_invalid")."""
    known = {entry.name: entry.type for entry in fields(FitSettings)}
    values = dict(options)
    threads = values.pop("threads", 1)
    for name, value in [*values.items(), ("threads", threads)]:
        kind = known.get(name, "int" if name == "threads" else "")
        if not _is_sane(kind, value):
            raise InvalidInput("adapt_option_invalid", option=name, value=str(value)[:40])
    return FitSettings(**values), threads


def _is_sane(kind: object, value: object) -> bool:
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5000
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 100.0
    return kind == "str" and value in ("auto", "float32", "bfloat16")


# ---------------------------------------------------------------- before the fit


@dataclass(frozen=True)
class _Lessons:
    """All that the fit needs, and what becomes the voice's settings."""

    base: str
    warp: F0Warp
    style: Tensor  # (1, 128) the starter's timbre
    target: Target
    lessons: list[Lesson]
    cosine_before: float


@dataclass(frozen=True)
class _Studio:
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


def _prepared_lessons(task: AdaptTask, studio: _Studio, fingerprint: str, report: Report) -> _Lessons:
    """From the work folder when a run before this one got so far, else made now and filed there."""
    path = task.work_dir / "prepared.safetensors"
    found = read_tensors(path, fingerprint)
    if found is not None:
        return _unpack_lessons(*found)
    target_audio = read_target(task)
    statistics = pitch_statistics(track_pitch(target_audio))
    embedding = load_reference_encoder().embed(target_audio)
    report(Progress("prepare", PREPARATION * 0.2))
    base, before = _choose_starter(studio, embedding, statistics)
    report(Progress("prepare", PREPARATION * 0.5, metrics={"speaker_cosine": before}))
    lessons = _make_lessons(task.seed, studio, base, statistics, (target_audio, embedding, before))
    tensors, record = _pack_lessons(lessons)
    write_tensors(path, tensors, {**record, "fingerprint": fingerprint})
    return lessons


def read_target(task: AdaptTask) -> Audio:
    """The clips one after the other, 24 kHz mono, at most two minutes. Raises InvalidInput("speech_too_short")."""
    parts: list[NDArray[np.float32]] = []
    room = int(MOST_SPEECH_S * SAMPLE_RATE)
    for clip in task.clips:
        decoded = read_audio(clip.path)
        samples = resample(to_mono(decoded.samples), decoded.sample_rate, SAMPLE_RATE)[:room]
        parts.append(samples)
        room -= len(samples)
    joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(joined) < SAMPLE_RATE:
        raise InvalidInput("speech_too_short", duration_s=round(len(joined) / SAMPLE_RATE, 2), required_s=1.0)
    return Audio(np.asarray(joined, np.float32), SAMPLE_RATE)


def _choose_starter(studio: _Studio, embedding: NDArray[np.float32], target: PitchStatistics) -> tuple[str, float]:
    """The starter voice that is nearest: by pitch first (cheap), then by the speaker encoder on two lessons."""
    encoder = load_reference_encoder()
    tokens = studio.sentences()[:AUDITION]
    voices = {name: EmbeddedVoice(pack) for name, pack in assets.read_packs().items()}
    plans = {name: [studio.plan(voice, row) for row in tokens] for name, voice in voices.items()}
    away = {
        name: abs(12 * math.log2(base_pitch(plan)[0] / target.median_hz)) for name, plan in plans.items()
    }  # semitones
    scores: dict[str, tuple[float, float]] = {}
    for name, voice in voices.items():
        if away[name] > min(away.values()) + FAR_SEMITONES:
            continue
        style = _timbre(voice)
        heard = [studio.speak(plan, style, _noise(plan.f0_hz, index)) for index, plan in enumerate(plans[name])]
        cosine = likeness_cosine(encoder.embed(Audio(torch.cat(heard, 1)[0].numpy(), SAMPLE_RATE)), embedding)
        scores[name] = (cosine - 0.01 * away[name], cosine)
    best = max(scores, key=lambda name: scores[name][0])
    return best, scores[best][1]


def base_pitch(plans: list[Features]) -> tuple[float, float]:
    """Median in Hz and spread in semitones of what the network plans to speak."""
    f0 = torch.cat([plan.f0_hz[0] for plan in plans]).numpy()
    statistics = pitch_statistics(np.where(f0 > VOICED_FLOOR_HZ, f0, 0.0))
    return statistics.median_hz, statistics.spread_semitones


def _make_lessons(
    seed: int,
    studio: _Studio,
    base: str,
    statistics: PitchStatistics,
    target: tuple[Audio, NDArray[np.float32], float],
) -> _Lessons:
    """Plan every lesson in the starter's voice, move its pitch to the target's, and note its shape before learning."""
    audio, embedding, before = target
    voice = EmbeddedVoice(assets.read_packs()[base])
    plans = [studio.plan(voice, tokens) for tokens in studio.sentences()]
    median, spread = base_pitch(plans)
    warp = F0Warp(median, statistics.median_hz, float(np.clip(statistics.spread_semitones / spread, *SCALE_RANGE)))
    style, log_mel = _timbre(voice), LogMel(SAMPLE_RATE)
    lessons, power = [], 0.0
    for index, plan in enumerate(plans):
        moved = plan._replace(f0_hz=torch.from_numpy(warp.apply(plan.f0_hz.numpy())))
        noise = _noise(moved.f0_hz, [seed, index])
        samples = studio.speak(moved, style, noise)
        lessons.append(Lesson(moved, noise, _speech_part(plan), shape_over_time(log_mel(samples))))
        power += float(samples.square().mean()) / len(plans)
    level = math.sqrt(power) / float(np.sqrt(np.mean(audio.samples**2)))
    colour = long_term_colour(log_mel(torch.from_numpy(audio.samples * np.float32(level))[None]))
    heard = Target(torch.from_numpy(embedding), _encoder_states(audio), colour)
    return _Lessons(base, warp, style, heard, lessons, before)


def _encoder_states(audio: Audio, window_s: float = 2.0) -> Tensor:
    """(2, 256) statistics of the speaker encoder's states over the whole recording, in windows as long as a lesson."""
    speech = torch.from_numpy(prepare(audio))  # 16 kHz without pauses
    size = int(window_s * 16_000)
    windows = speech[: max(1, len(speech) // size) * size].reshape(-1, min(size, len(speech)))
    encoder = load_speaker_encoder()
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


def _pack_lessons(lessons: _Lessons) -> tuple[dict[str, Tensor], JsonDict]:
    tensors = {"style": lessons.style, **lessons.target._asdict()}
    for index, lesson in enumerate(lessons.lessons):
        row = {**lesson.features._asdict(), "noise": lesson.noise, "shape": lesson.shape}
        tensors |= {f"{index}/{name}": value for name, value in row.items()}
    record = {"base": lessons.base, "warp": asdict(lessons.warp), "cosine_before": lessons.cosine_before}
    return tensors, {**record, "count": len(lessons.lessons)}


def _unpack_lessons(tensors: Mapping[str, Tensor], record: JsonDict) -> _Lessons:
    lessons = []
    for index in range(int(record["count"])):
        plan = Features(*(tensors[f"{index}/{name}"] for name in Features._fields))
        lessons.append(Lesson(plan, tensors[f"{index}/noise"], _speech_part(plan), tensors[f"{index}/shape"]))
    target = Target(*(tensors[name] for name in Target._fields))
    return _Lessons(
        record["base"], F0Warp(**record["warp"]), tensors["style"], target, lessons, record["cosine_before"]
    )


# ---------------------------------------------------------------- the fit and after it


def _run_fit(fit: Fit, lessons: _Lessons, task: AdaptTask, fingerprint: str, report: Report) -> None:
    """All steps that are still to do, a checkpoint now and then, a report after each."""
    path = task.work_dir / "fit.safetensors"
    fit.load(path, fingerprint)
    first, started = fit.done, time.monotonic()
    for _ in range(first, fit.settings.steps):
        parts = fit.step(lessons.lessons, lessons.target, task.seed)
        left = fit.settings.steps - fit.done
        pace = (time.monotonic() - started) / (fit.done - first)
        if fit.done % fit.settings.checkpoint_every == 0 or not left:
            fit.save(path, fingerprint)
        fraction = PREPARATION + (0.97 - PREPARATION) * fit.done / fit.settings.steps
        report(Progress("fit", fraction, round(left * pace, 1), {**parts, "step": fit.done}))


def _measure(fit: Fit, lessons: _Lessons, count: int = 4) -> JsonDict:
    """The speaker encoder's verdict on a few lessons. It is part of the loss: judge by other measures."""
    encoder = load_reference_encoder()
    with torch.no_grad():
        heard = [fit.render(lesson.features, lesson.noise)[:, lesson.speech] for lesson in lessons.lessons[:count]]
    audio = Audio(torch.cat(heard, 1)[0].numpy(), SAMPLE_RATE)
    after = likeness_cosine(encoder.embed(audio), lessons.target.embedding.numpy())
    return {"speaker_cosine_before": round(lessons.cosine_before, 3), "speaker_cosine": round(after, 3)}


def _write_outcome(fit: Fit, lessons: _Lessons, work_dir: Path, metrics: JsonDict) -> AdaptedVoice:
    from safetensors.torch import save

    pack = work_dir / "pack.npy"
    np.save(pack, assets.read_packs()[lessons.base], allow_pickle=False)
    adaptation = work_dir / "adaptation.safetensors"
    tensors = {name: value.detach().reshape(-1).contiguous() for name, value in fit.parameters.items()}
    adaptation.write_bytes(save(tensors))
    settings = {"pack": lessons.base, "f0": asdict(lessons.warp)}
    return AdaptedVoice({"pack": pack, "adaptation": adaptation}, settings, metrics, lessons.base)


def _fingerprint(task: AdaptTask, settings: FitSettings) -> str:
    """What the outcome depends on; a work folder of anything else is not resumed from."""
    digest = hashlib.sha256()
    for part in _ingredients(task, settings):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _ingredients(task: AdaptTask, settings: FitSettings) -> Iterator[bytes]:
    yield from (clip.path.read_bytes() for clip in task.clips)
    yield json.dumps([task.seed, asdict(settings), LESSONS, assets.MODEL_SHA256], sort_keys=True).encode()


__all__ = ["LESSONS", "STYLE", "TIMBRE", "adapt", "read_options", "read_target"]
