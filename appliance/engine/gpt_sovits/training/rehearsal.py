"""A complete fine-tune of networks with made-up weights on made-up sound: what training costs on this machine.

    python -m appliance.engine.gpt_sovits.training.rehearsal --size official --version v2Pro --steps 40

It goes the way of a clone job, from clips on the disk to the files of a voice, and prints one JSON document. Needs
numpy, PyTorch and safetensors only; where sound libraries are installed, the voice also speaks a sentence. Nothing is
learnt that anybody would want to hear.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import sys
import tempfile
import threading
import time
import wave
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from appliance.contracts import (
    AdaptedVoice,
    AdaptTask,
    Audio,
    Clip,
    EngineHost,
    JsonDict,
    Progress,
    SpeakTask,
    TextFrontend,
    Utterance,
    VoiceAssets,
    WordSpan,
)
from appliance.engine.gpt_sovits.adapt import adapt
from appliance.engine.gpt_sovits.bert import Bert, BertConfig
from appliance.engine.gpt_sovits.discriminator import PERIODS, PRO_PERIODS, Discriminator
from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE
from appliance.engine.gpt_sovits.t2s import NAME_PREFIX, TextToSemantic, TextToSemanticConfig
from appliance.engine.gpt_sovits.training.sampling import write_sound
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS, MARKS

S1 = {"phoneme_vocab_size": 732, "vocab_size": 1025, "hidden_dim": 512, "embedding_dim": 512}
S1 |= {"head": 16, "n_layer": 24, "EOS": 1024}
S2: JsonDict = {
    **{"inter_channels": 192, "hidden_channels": 192, "filter_channels": 768, "n_heads": 2, "n_layers": 6},
    **{"kernel_size": 3, "p_dropout": 0.1, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11]},
    **{"resblock_dilation_sizes": [[1, 3, 5]] * 3, "upsample_rates": [10, 8, 2, 2, 2]},
    **{"upsample_initial_channel": 512, "upsample_kernel_sizes": [16, 16, 8, 2, 2], "gin_channels": 512},
    **{"semantic_frame_rate": "25hz", "freeze_quantizer": True},
}
TINY_S1 = {"hidden_dim": 32, "embedding_dim": 32, "head": 2, "n_layer": 2}
TINY_S2: JsonDict = {"inter_channels": 16, "hidden_channels": 16, "filter_channels": 32, "n_layers": 2}
TINY_S2 |= {"upsample_initial_channel": 32, "gin_channels": 32, "mixer_width": 32}
TINY_NARROWING = 32  # of the judges
HUBERT = {"num_hidden_layers": 1, "intermediate_size": 64, "conv_dim": [16] * 7}
BERT = {"num_hidden_layers": 3, "intermediate_size": 64, "vocab_size": 64}
SPEAKER: JsonDict = {"channels": 8, "base_width": 8, "expansion": 32, "blocks": [1, 1, 1, 1]}
WORDS = "the quick brown fox jumps over the lazy dog while seven old men watch from the bridge and say nothing at all"
VERSIONS = ("v2", "v2Pro", "v2ProPlus")


class Letters(TextFrontend):
    """A phone for every letter: enough to drive the networks without a dictionary."""

    language = "en"
    inventories = ("gpt_sovits_v2",)

    def analyse(self, text: str, inventory: str) -> Utterance:
        symbols = GPT_SOVITS_SYMBOLS[inventory]
        phones = [mark if mark in MARKS else symbols[(ord(mark) * 7) % len(symbols)] for mark in text if mark != " "]
        return Utterance("en", text, tuple(phones), (WordSpan(text, 0, len(phones)),))


def make_base(folder: Path, version: str, size: str) -> dict[str, Path]:
    """Files of weights by role, as an import would have stored them. `size`: "tiny" or "official"."""
    is_tiny = size == "tiny"
    s1 = {"model": S1 | (TINY_S1 if is_tiny else {})}
    s2 = {"version": version, "model": _s2_sizes(version, is_tiny=is_tiny)}
    config = replace(SynthesizerConfig.from_dict(s2), has_posterior=True)
    judges = Discriminator(PERIODS if version == "v2" else PRO_PERIODS, TINY_NARROWING if is_tiny else 1)
    networks: dict[str, tuple[nn.Module, JsonDict]] = {
        "s1": (TextToSemantic(TextToSemanticConfig.from_dict(s1)), s1),
        "s2": (Synthesizer(config), s2),
        "s2d": (judges, {}),
        "hubert": (Hubert(HubertConfig.from_dict(HUBERT)), HUBERT),
        "bert": (Bert(BertConfig.from_dict(BERT)), BERT | {"vocabulary": ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]}),
        "sv": (SpeakerNet(SpeakerNetConfig(**SPEAKER)), SPEAKER),
    }
    return {role: path for name, one in networks.items() for role, path in _write(folder, name, *one).items()}


def _s2_sizes(version: str, *, is_tiny: bool) -> JsonDict:
    sizes: JsonDict = {**S2, "version": version}
    if version != "v2":
        sizes |= {"gin_channels": 1024, "p_dropout": 0.0}
    if version == "v2ProPlus":
        sizes |= {"upsample_initial_channel": 768, "upsample_kernel_sizes": [20, 16, 8, 2, 2]}
    return sizes | (TINY_S2 if is_tiny else {})


def _write(folder: Path, name: str, network: nn.Module, config: Mapping[str, Any]) -> dict[str, Path]:
    weights, settings = folder / f"{name}.safetensors", folder / f"{name}.json"
    prefix = NAME_PREFIX if name == "s1" else ""
    save_file({prefix + key: tensor.half() for key, tensor in _made_up(network).items()}, weights)
    settings.write_text(json.dumps(config), "utf-8")
    return {name: weights, f"{name}_config": settings}


def _made_up(network: nn.Module) -> dict[str, torch.Tensor]:
    """As training might leave them: small biases, lengths and gains near one."""
    generator, found = torch.Generator().manual_seed(0), dict[str, torch.Tensor]()
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dim() > 1 and not name.endswith("weight_g"):
            found[name] = noise / max(1.0, tensor[0].numel() ** 0.5)
        else:
            is_offset = name.endswith(("bias", "beta", "mean"))
            found[name] = 0.1 * noise if is_offset else 1.0 + 0.1 * noise.abs()
    return found


def make_clips(folder: Path, count: int, seconds: float) -> tuple[Clip, ...]:
    """A buzzing "speaker" in clips of different lengths around `seconds`."""
    clips = []
    for number in range(count):
        length = seconds * (0.8 + 0.4 * number / max(1, count - 1))
        moments = torch.arange(int(length * SAMPLE_RATE)) / SAMPLE_RATE
        tones = [torch.sin(2 * torch.pi * (110 + 3 * number) * k * moments) / k for k in range(1, 16)]
        swell = 0.5 + 0.5 * torch.sin(2 * torch.pi * 3.0 * moments)
        path = folder / f"clip{number}.wav"
        write_sound(path, 0.1 * torch.stack(tones).sum(dim=0) * swell)
        words = " ".join((WORDS.split() * 40)[number : number + int(3 * length)])
        clips.append(Clip(f"clip{number}", path, words, "en"))
    return tuple(clips)


def read_wave(path: Path) -> Audio:
    """A WAV of 16 bits as `write_sound` leaves it."""
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return Audio(samples.astype(np.float32) / 32768.0, file.getframerate())


class Timekeeper:
    """Hears the progress; knows afterwards what each course took."""

    def __init__(self) -> None:
        self._stages: dict[str, list[tuple[float, Mapping[str, float]]]] = {}

    def hear(self, progress: Progress) -> None:
        if "step" in progress.metrics:
            self._stages.setdefault(progress.stage, []).append((time.monotonic(), progress.metrics))
            print(f"{progress.stage} {progress.metrics['step']:.0f}", file=sys.stderr, flush=True)

    def result(self) -> JsonDict:
        return {stage: _course(rows) for stage, rows in self._stages.items()}


def _course(rows: Sequence[tuple[float, Mapping[str, float]]]) -> JsonDict:
    moments = [moment for moment, _ in rows]
    paces = sorted(after - before for before, after in itertools.pairwise(moments))
    figure = "mel" if "mel" in rows[0][1] else "cross_entropy"
    held_out = [row["held_out"] for _, row in rows if "held_out" in row]
    return {
        "updates": len(rows),
        "median_s_per_update": round(paces[len(paces) // 2], 4) if paces else None,
        "loss": figure,
        "first": round(rows[0][1][figure], 4),
        "last": round(rows[-1][1][figure], 4),
        "held_out": [round(held_out[0], 4), round(held_out[-1], 4)] if held_out else None,
    }


def rehearse(given: argparse.Namespace, folder: Path) -> JsonDict:
    """The whole way; `folder` is gone on from where an earlier call was broken off."""
    for name in ("base", "clips"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    base = make_base(folder / "base", given.version, given.size)
    clips = make_clips(folder / "clips", given.clips, given.seconds)
    options = {"steps": given.steps, "rank": given.rank, "precision": given.precision, "device": given.device}
    options |= {"threads": given.threads, "samples": given.samples}
    task = AdaptTask(clips, folder / "work", given.seed, options, base, folder / "samples")
    host, keeper, started = EngineHost({}, {"en": Letters()}, folder / "cache"), Timekeeper(), time.monotonic()
    voice = adapt(task, host, keeper.hear, read_wave)
    return {
        "size": given.size,
        "version": given.version,
        "device": voice.metrics["device"],
        "precision": voice.metrics["plan"]["sound"]["precision"],
        "threads": given.threads,
        "clips": voice.metrics["clips"],
        "minutes": voice.metrics["minutes"],
        "seconds": round(time.monotonic() - started, 1),
        "courses": keeper.result(),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "peak_gpu_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if torch.cuda.is_available() else None,
        "samples": sorted(path.name for path in (folder / "samples").glob("*.wav")),
        "spoken_s": speak(voice, host),
    }


def speak(voice: AdaptedVoice, host: EngineHost) -> float | None:
    """Seconds of a sentence in the new voice; None where no sound library can read its reference."""
    if find_spec("soundfile") is None or find_spec("soxr") is None:
        return None
    from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine

    engine = GptSovitsEngine()
    engine.load(host)
    task = SpeakTask("the old bridge.", VoiceAssets("rehearsal", ENGINE, voice.files, voice.settings), "en")
    chunks = [chunk.audio.samples for chunk in engine.speak(task, threading.Event())]
    return round(sum(map(len, chunks)) / SAMPLE_RATE, 2)


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rehearsal", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", choices=("tiny", "official"), default="tiny")
    parser.add_argument("--version", choices=VERSIONS, default="v2")
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip")
    parser.add_argument("--steps", type=int, default=0, help="updates per course; 0: as a minute of speech gets")
    parser.add_argument("--rank", type=int, default=0, help="of low-rank additions to s1")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=4, help="sounds to listen to, per course")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept, and gone on from; default: a temporary one")
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    given = parse(words)
    if given.folder:
        print(json.dumps(rehearse(given, given.folder), indent=2))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(rehearse(given, Path(folder)), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
