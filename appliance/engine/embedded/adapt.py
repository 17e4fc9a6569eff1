"""A minute of speech -> a voice of the embedded engine: choose the nearest starter voice, then fit its decoder.

The outcome is a style pack (the starter's, whose prosody half is kept), an adaptation (timbre and AdaIN biases, named
as in the ONNX graph), and the numbers of the pitch warp. `lessons.py` prepares, `fit.py` learns.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from appliance.audio.files import read_audio, resample, to_mono
from appliance.audio.speaker_embedding import likeness_cosine
from appliance.audio.speaker_embedding import load_speaker_encoder as load_judging_encoder
from appliance.contracts import AdaptedVoice, AdaptTask, Audio, EngineHost, JsonDict, Progress
from appliance.engine.embedded import assets
from appliance.engine.embedded.fit import Fit, FitSettings, read_tensors, write_tensors
from appliance.engine.embedded.lessons import (
    LESSONS,
    Lessons,
    Person,
    Studio,
    choose_starter,
    make_lessons,
    pack_lessons,
    unpack_lessons,
)
from appliance.engine.embedded.pipeline import SAMPLE_RATE
from appliance.engine.embedded.speaker_encoder import load_speaker_encoder
from appliance.engine.embedded.weights import load_network
from appliance.errors import InvalidInput

MOST_SPEECH_S = 120.0  # more of the target is not read; a minute says it all
EARLIER = "earlier.safetensors"
PREPARATION = 0.12  # share of the whole task

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
    lessons = _prepare(task, Studio(network, settings, host.frontends), fingerprint, report)
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


def _prepare(task: AdaptTask, studio: Studio, fingerprint: str, report: Report) -> Lessons:
    """From the work folder when a run before this one got so far, else made now and filed there."""
    path = task.work_dir / "prepared.safetensors"
    found = read_tensors(path, fingerprint)
    if found is not None:
        return unpack_lessons(*found)
    person = Person.hear(read_target(task))
    report(Progress("prepare", PREPARATION * 0.2))
    starter = choose_starter(studio, person)
    report(Progress("prepare", PREPARATION * 0.5, metrics={"speaker_cosine": starter[1]}))
    lessons = make_lessons(task.seed, studio, person, starter)
    tensors, record = pack_lessons(lessons)
    write_tensors(path, tensors, {**record, "fingerprint": fingerprint})
    return lessons


def _run_fit(fit: Fit, lessons: Lessons, task: AdaptTask, fingerprint: str, report: Report) -> None:
    """All steps that are still to do, a checkpoint now and then, a report after each."""
    path = task.work_dir / "fit.safetensors"
    fit.load(path, fingerprint)
    first, started = fit.done, time.monotonic()
    for _ in range(first, fit.settings.steps):
        parts = fit.step(lessons.lessons, lessons.target, task.seed)
        left = fit.settings.steps - fit.done
        pace = (time.monotonic() - started) / (fit.done - first)
        if fit.done == _set_aside_at(fit.settings):
            _write_adaptation(task.work_dir / EARLIER, fit.average)
        if fit.done % fit.settings.checkpoint_every == 0 or not left:
            fit.save(path, fingerprint)
        fraction = PREPARATION + (0.97 - PREPARATION) * fit.done / fit.settings.steps
        report(Progress("fit", fraction, round(left * pace, 1), {**parts, "step": fit.done}))


def _set_aside_at(settings: FitSettings) -> int:
    """The step whose state goes to the examination beside the last one: it may have learned less and speak better."""
    return round(settings.steps * settings.earlier_share)


def _write_adaptation(path: Path, parameters: Mapping[str, torch.Tensor]) -> None:
    from safetensors.torch import save

    partial = path.with_suffix(".part")
    partial.write_bytes(save({name: value.detach().reshape(-1).contiguous() for name, value in parameters.items()}))
    partial.replace(path)


def _measure(fit: Fit, lessons: Lessons, count: int = 4) -> JsonDict:
    """The speaker encoder's verdict on a few lessons. It is part of the loss: judge by other measures."""
    encoder = load_judging_encoder()
    with torch.no_grad():
        heard = [fit.render(lesson.features, lesson.noise)[:, lesson.speech] for lesson in lessons.lessons[:count]]
    audio = Audio(torch.cat(heard, 1)[0].numpy(), SAMPLE_RATE)
    after = likeness_cosine(encoder.embed(audio), lessons.target.embedding.numpy())
    return {"speaker_cosine_before": round(lessons.cosine_before, 3), "speaker_cosine": round(after, 3)}


def _write_outcome(fit: Fit, lessons: Lessons, work_dir: Path, metrics: JsonDict) -> AdaptedVoice:
    pack = work_dir / "pack.npy"
    np.save(pack, assets.read_packs()[lessons.base], allow_pickle=False)
    adaptation = work_dir / "adaptation.safetensors"
    _write_adaptation(adaptation, fit.parameters)
    settings = {"pack": lessons.base, "f0": asdict(lessons.warp)}
    weights, earlier = {"kokoro": assets.MODEL_SHA256}, work_dir / EARLIER
    states: tuple[AdaptedVoice, ...] = ()
    if earlier.is_file():
        files, steps = {"pack": pack, "adaptation": earlier}, {"steps": _set_aside_at(fit.settings)}
        states = (AdaptedVoice(files, settings, steps, lessons.base, weights),)
    return AdaptedVoice({"pack": pack, "adaptation": adaptation}, settings, metrics, lessons.base, weights, states)


def _fingerprint(task: AdaptTask, settings: FitSettings) -> str:
    """What the outcome depends on; a work folder of anything else is not resumed from."""
    digest = hashlib.sha256()
    for part in _ingredients(task, settings):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def _ingredients(task: AdaptTask, settings: FitSettings) -> Iterator[bytes]:
    yield from (clip.path.read_bytes() for clip in task.clips)
    yield json.dumps([task.seed, asdict(settings), LESSONS, assets.MODEL_SHA256], sort_keys=True).encode()
