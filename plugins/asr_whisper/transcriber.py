"""Whisper base on faster-whisper, held to what was said: deterministic, no carried context, bounded length."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from appliance_plugins.asr_whisper import weights

from appliance.contracts import Audio, Device, Probe, Samples, Transcriber, Transcript
from appliance.errors import InvalidInput, Unavailable

MODEL_RATE = 16_000  # Hz
BEAMS = 5
MAX_TOKENS_PER_S = 12.0  # fast speech needs about 6; more is the decoder talking to itself
SPARE_TOKENS = 24
PROMPTS = {"zh": "以下是普通话的句子，使用简体中文。"}  # without it Whisper mostly writes traditional characters
HAN = "\u3400-\u4dbf\u4e00-\u9fff"
HALF_WIDTH = re.compile(rf"(?<=[{HAN}])[,?!:;] ?")  # after a Chinese character
FULL_WIDTH = str.maketrans({",": "，", "?": "？", "!": "！", ":": "：", ";": "；", " ": ""})


class WhisperTranscriber(Transcriber):
    """The transcriber "whisper": int8 on the CPU, about 150 MB of memory."""

    name = "whisper"
    languages = ("zh", "en", "ja", "ko", "de", "fr", "es", "it", "pt", "ru")  # it tries others when asked

    def __init__(self) -> None:
        self._model: Any = None

    def probe(self) -> Probe:
        """Whether faster-whisper and the weights are installed; imports neither."""
        if importlib.util.find_spec("faster_whisper") is None:
            return Probe(usable=False, reason="the package faster-whisper is not installed")
        absent = weights.missing()
        if absent:
            return Probe(usable=False, reason=f"weights are not installed: {', '.join(absent)}")
        version = metadata.version("faster-whisper")
        return Probe(usable=True, devices=(Device("cpu", "faster-whisper int8"),), version=version)

    def load(self, threads: int, cache_dir: Path) -> None:
        """Check the weights and build the model; nothing is written to `cache_dir`."""
        if importlib.util.find_spec("faster_whisper") is None:
            raise Unavailable("asr_missing", missing="faster-whisper")
        files = weights.read_weights()
        from faster_whisper import WhisperModel

        # a name that is no folder, with all files given, leaves the library nothing to look for on a disk or a network
        self._model = WhisperModel(
            "whisper-base", device="cpu", compute_type="int8", cpu_threads=threads, files=files, local_files_only=True
        )

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """Write down what is said; silence and noise give an empty text. Raises Unavailable, InvalidInput."""
        if self._model is None:
            raise Unavailable("asr_not_loaded")
        if language is not None and language not in self._model.supported_languages:
            raise InvalidInput("asr_language_unknown", language=language, known=", ".join(self.languages))
        samples = _at_model_rate(audio)
        if not _has_speech(samples):
            return Transcript("", language or "", 0.0)
        spoken = language or self._model.detect_language(samples)[0]
        segments, _ = self._model.transcribe(
            samples,
            language=spoken,
            beam_size=BEAMS,
            temperature=0.0,  # no sampling: the same sound gives the same text
            condition_on_previous_text=False,  # a wrong word must not breed more
            initial_prompt=PROMPTS.get(spoken),
            without_timestamps=False,
            max_new_tokens=int(min(30.0, len(samples) / MODEL_RATE) * MAX_TOKENS_PER_S) + SPARE_TOKENS,
        )
        return _join(segments, spoken)


def _at_model_rate(audio: Audio) -> Samples:
    if audio.sample_rate == MODEL_RATE:
        return audio.samples
    import soxr

    return np.asarray(soxr.resample(audio.samples, audio.sample_rate, MODEL_RATE, quality="HQ"), np.float32)


def _has_speech(samples: Samples) -> bool:
    """Whether anybody speaks at all: asked about silence, Whisper makes something up."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    return bool(get_speech_timestamps(samples, VadOptions(min_speech_duration_ms=100)))


def _join(segments: Iterable[Any], language: str) -> Transcript:
    texts: list[str] = []
    log_probability, tokens = 0.0, 0
    for segment in segments:
        texts.append(segment.text)
        log_probability += segment.avg_logprob * len(segment.tokens)
        tokens += len(segment.tokens)
    confidence = math.exp(log_probability / tokens) if tokens else 0.0
    text = "".join(texts).strip()
    return Transcript(_as_written_in_china(text) if language == "zh" else text, language, min(1.0, confidence))


def _as_written_in_china(text: str) -> str:
    """Simplified characters and full-width punctuation; the prompt asks for both, and is not always heard."""
    wide = HALF_WIDTH.sub(lambda mark: mark.group().translate(FULL_WIDTH), text)
    if importlib.util.find_spec("opencc") is None:
        return wide
    import opencc

    return str(opencc.OpenCC("t2s").convert(wide))
