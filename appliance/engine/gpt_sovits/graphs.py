"""The networks of GPT-SoVITS as backends run them: thin modules around the one definition, and how each is examined.

| network | takes | gives | computed in |
|---|---|---|---|
| bert | ids (1, n) | features (1, n, W) | f32, weights in 8 bits where a backend is good at it |
| hubert | waveform (1, S) at 16 kHz | (1, T, W) | f32: its nearest code is chosen afterwards |
| s2.text | phones (1, N), mask (1, 1, N) | (1, C, N) | f32 |
| s2.frames | a code per frame (1, T), text, timbre of the mixer, masks | features (1, C, T) | f32 |
| s2.voice | latent (1, L, T), timbre (1, G, 1) | sound (1, 1, 640 T) | as the backend likes: bf16 |

The masks let lengths be padded to a few, without changing a number. Tolerances are of the root mean square of the
difference relative to that of the reference network's output.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from appliance.engine.artifact_store import Arrays, Port
from appliance.engine.exporting import Writer, Written
from appliance.engine.gpt_sovits.bert import Bert, ChineseBert
from appliance.engine.gpt_sovits.hubert import Hubert
from appliance.engine.gpt_sovits.polyphase import with_polyphase
from appliance.engine.gpt_sovits.reader_arrays import BERT, write_bert_reader
from appliance.engine.gpt_sovits.sovits import NOISE_SCALE, Synthesizer
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE, reference_spectrogram
from appliance.engine.gpt_sovits.voice_arrays import BF16, VOICE, write_voice

EXACT = 1e-3
SOUND = 0.0316  # 30 dB below the sound: bf16 is at 38 to 44 dB, integers at 25 to 29 are refused
MEANING = 0.08  # 8-bit weights are at 0.04 to 0.07; static integers at 0.10 to 0.18 are refused
SPOKEN = ("今天下雨了，您好。", "各位顾客请注意，本店将于今晚九点三十分停止营业，请您抓紧时间选购商品。")
EXAM_TOKENS, EXAM_PHONES = (12, 30), (22, 61)


@dataclass(frozen=True)
class Exam:
    """How a network is judged."""

    tolerance: float
    arithmetic: str = "f32"
    int8_weights: bool = False


EXAMS = {
    "bert": Exam(MEANING, int8_weights=True),
    "hubert": Exam(EXACT),
    "s2.text": Exam(EXACT),
    "s2.frames": Exam(EXACT),
    "s2.voice": Exam(SOUND, arithmetic=""),
}


class Graph(nn.Module):
    """What is exported: names for what goes in and comes out."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(port.name for port in self.outputs)


class BertGraph(Graph):
    def __init__(self, bert: ChineseBert) -> None:
        super().__init__()
        self.network = bert.network
        self.inputs = (Port("ids", (1, "characters"), "int64"),)
        self.outputs = (Port("features", (1, "characters", bert.network.config.width)),)

    def forward(self, ids: Tensor) -> Tensor:
        return self.network(ids)


class HubertGraph(Graph):
    def __init__(self, hubert: Hubert) -> None:
        super().__init__()
        self.network = hubert
        self.inputs = (Port("waveform", (1, "samples")),)
        self.outputs = (Port("content", (1, "frames", hubert.config.width)),)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.network(waveform)


class TextGraph(Graph):
    """The half of the prior that sees phones only: once per piece."""

    def __init__(self, s2: Synthesizer) -> None:
        super().__init__()
        self.prior = s2.enc_p
        self.inputs = (Port("phones", (1, "phones"), "int64"), Port("text_mask", (1, 1, "phones")))
        self.outputs = (Port("text", (1, s2.config.hidden_channels, "phones")),)

    def forward(self, phones: Tensor, text_mask: Tensor) -> Tensor:
        return self.prior.text(phones, text_mask)


class FramesGraph(Graph):
    """The half of the prior that sees the tokens so far: again for every part."""

    def __init__(self, s2: Synthesizer) -> None:
        super().__init__()
        c = s2.config
        self.prior, self.codebook = s2.enc_p, s2.quantizer.codebook
        self.inputs = (
            Port("codes", (1, "frames"), "int64"),
            Port("text", (1, c.hidden_channels, "phones")),
            Port("timbre", (1, s2.enc_p.mrte.c_pre.out_channels, 1)),
            Port("mask", (1, 1, "frames")),
            Port("text_mask", (1, 1, "phones")),
        )
        self.outputs = (Port("features", (1, c.hidden_channels, "frames")),)

    def forward(self, codes: Tensor, text: Tensor, timbre: Tensor, mask: Tensor, text_mask: Tensor) -> Tensor:
        quantised = self.codebook.embed[codes].transpose(1, 2)  # (1, ssl_width, T)
        return self.prior.frames(quantised, text, timbre, (mask, text_mask))


class VoiceGraph(Graph):
    """Flow and vocoder, with polyphase upsampling."""

    def __init__(self, s2: Synthesizer) -> None:
        super().__init__()
        self.flow, self.generator = s2.flow, with_polyphase(s2.dec)
        c = s2.config
        self.inputs = (Port("latent", (1, c.inter_channels, "frames")), Port("timbre", (1, c.gin_channels, 1)))
        self.outputs = (Port("sound", (1, 1, "samples")),)

    def forward(self, latent: Tensor, timbre: Tensor) -> Tensor:
        return self.generator(self.flow(latent, None, timbre, is_inverse=True), timbre)


# ---------------------------------------------------------------- what they are examined with


@dataclass(frozen=True)
class Pupil:
    """One network with the feeds of its exam."""

    name: str
    graph: Graph
    samples: tuple[Arrays, ...]
    write_more: Writer | None = None


def bert_pupils(bert: ChineseBert) -> Iterable[Pupil]:
    ids = [np.array([bert.tokens.framed(bert.tokens.encode_characters(text))], np.int64) for text in SPOKEN]
    samples: tuple[Arrays, ...] = tuple({"ids": one} for one in ids)
    yield Pupil("bert", BertGraph(bert), samples, lambda folder, formats: _write_reader(bert, folder, formats))


def _write_reader(bert: ChineseBert, folder: Path, formats: frozenset[str]) -> Iterable[Written]:
    if BERT in formats:
        path = folder / "arrays_int8.safetensors"
        write_bert_reader(cast(Bert, bert.network), path)
        yield Written("int8", BERT, (path,))


def hubert_pupils(hubert: Hubert) -> Iterable[Pupil]:
    clips = (_speechlike(seconds, 16_000) for seconds in (1.1, 2.0))
    yield Pupil("hubert", HubertGraph(hubert), tuple({"waveform": clip[None]} for clip in clips))


@torch.inference_mode()
def s2_pupils(s2: Synthesizer) -> Iterable[Pupil]:
    """Codes and phones are drawn; what the later networks are fed is what the earlier ones make of them."""
    generator = torch.Generator().manual_seed(0)
    ge = _timbre(s2, generator)
    mixer = s2.mixer_timbre(ge)
    text_feeds, frame_feeds, voice_feeds = [], [], []
    for tokens, phones in zip(EXAM_TOKENS, EXAM_PHONES, strict=True):
        ids = torch.randint(0, s2.config.symbols, (1, phones), generator=generator)
        codes = torch.randint(0, s2.config.codes, (1, 1, tokens), generator=generator)
        features = s2.features(codes, ids, ge)
        mean, log_deviation = s2.enc_p.project(features)
        noise = torch.randn(mean.shape, generator=generator)
        text_mask = torch.ones(1, 1, phones)
        text_feeds.append(_arrays(phones=ids, text_mask=text_mask))
        frame_feeds.append(
            _arrays(
                codes=codes[0].repeat_interleave(s2.config.frames_per_token, dim=1),
                text=s2.enc_p.text(ids),
                timbre=mixer,
                mask=torch.ones(1, 1, features.shape[2]),
                text_mask=text_mask,
            )
        )
        voice_feeds.append(_arrays(latent=mean + noise * log_deviation.exp() * NOISE_SCALE, timbre=ge))
    yield Pupil("s2.text", TextGraph(s2), tuple(text_feeds))
    yield Pupil("s2.frames", FramesGraph(s2), tuple(frame_feeds))
    yield Pupil(
        "s2.voice", VoiceGraph(s2), tuple(voice_feeds), lambda folder, formats: _write_voice(s2, folder, formats)
    )


def _write_voice(s2: Synthesizer, folder: Path, formats: frozenset[str]) -> Iterable[Written]:
    if VOICE in formats:
        path = folder / "arrays.safetensors"
        write_voice(s2, path)
        yield Written(BF16, VOICE, (path,))


def _timbre(s2: Synthesizer, generator: torch.Generator) -> Tensor:
    spectrogram = reference_spectrogram(torch.from_numpy(_speechlike(3.0, SAMPLE_RATE))[None])
    speakers = [torch.randn(1, s2.config.speaker_width, generator=generator)] if s2.config.is_pro else None
    return s2.timbre([spectrogram], speakers)  # (1, G, 1)


def _speechlike(seconds: float, rate: int) -> NDArray[np.float32]:
    """A tone with harmonics and words' rhythm over a little noise."""
    time = np.arange(int(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * 130.0 * k * time) / k for k in range(1, 20))
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(time))
    return (0.1 * tone * (0.5 + 0.5 * np.sin(2 * np.pi * 3.0 * time)) + noise).astype(np.float32)


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: tensor.contiguous().numpy() for name, tensor in tensors.items()}
