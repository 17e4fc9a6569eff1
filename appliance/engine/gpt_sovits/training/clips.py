"""The features of one clip as a file, and batches of them. A file is safetensors, so reading one runs no code.

    phones (n,) int64     bert (1024, n)     tokens (y,) int64     ssl (768, T)     waveform (S,) at 32 kHz
    speaker (20480,) for Pro only

Floats may be stored in half precision; they are used in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from appliance.engine.gpt_sovits.sovits import Lesson
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE, spectrogram
from appliance.engine.gpt_sovits.t2s import BERT_WIDTH, TextPrompt
from appliance.engine.gpt_sovits.training.sound_steps import HOP, SLICE_FRAMES, SoundLesson
from appliance.errors import Corrupt

TOKENS_PER_SECOND = 25
LEAST_S, MOST_S = 0.6, 54.0
LEAST_PHONES_PER_S, MOST_PHONES_PER_S = 3.0, 25.0
WHOLE_NUMBERS = ("phones", "tokens")


def write_clip(path: Path, features: Mapping[str, Tensor]) -> None:
    """`features` by the names above; the file is there whole or not at all."""
    partial = path.with_name(path.name + ".part")
    save_file({name: tensor.contiguous() for name, tensor in features.items()}, partial)
    partial.replace(path)


def read_features(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Only what is asked for. Raises Corrupt("training_clip_wrong") for a broken file or a missing feature."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise Corrupt("training_clip_wrong", clip=path.name, reason=str(error)) from error
    for name, tensor in found.items():
        if name not in WHOLE_NUMBERS:
            found[name] = tensor.float()
            if not bool(found[name].isfinite().all()):
                raise Corrupt("training_clip_wrong", clip=path.name, reason=f"{name}: not finite")
    return found


def fault_of(path: Path) -> str:
    """Why a clip is not trained on, empty where it is. Upstream's filters: "clip_length" outside 0.6 to 54 s, and
    "clip_pace" outside 3 to 25 phones a second (text and sound do not belong together).
    """
    features = read_features(path, ("phones", "waveform"))
    seconds = features["waveform"].numel() / SAMPLE_RATE
    if not LEAST_S < seconds < MOST_S:
        return "clip_length"
    has_pace = LEAST_PHONES_PER_S <= features["phones"].numel() / seconds <= MOST_PHONES_PER_S
    return "" if has_pace else "clip_pace"


def hold_out(paths: Sequence[Path], share: float, generator: torch.Generator) -> tuple[list[Path], list[Path]]:
    """Clips to train on and clips to measure with; fewer than five are all trained on."""
    if len(paths) < 5:
        return list(paths), []
    order = torch.randperm(len(paths), generator=generator).tolist()
    count = max(1, int(share * len(paths)))
    return [paths[i] for i in sorted(order[count:])], [paths[i] for i in sorted(order[:count])]


def read_prompt(path: Path) -> TextPrompt:
    """One item of s1's lessons."""
    found = read_features(path, ("phones", "bert", "tokens"))
    if found["bert"].shape != (BERT_WIDTH, found["phones"].numel()):
        raise Corrupt("training_clip_wrong", clip=path.name, reason="bert and phones differ in length")
    return TextPrompt(found["phones"], found["bert"], found["tokens"])


def read_sound_lesson(paths: Sequence[Path], *, is_pro: bool) -> SoundLesson:
    """One batch of s2, padded with zeros to an even number of frames that holds a slice."""
    names = ("phones", "ssl", "waveform", *(("speaker",) if is_pro else ()))
    items = [read_features(path, names) for path in paths]
    frames = [item["waveform"].numel() // HOP for item in items]
    longest = max(2 * (max(frames) // 2 + 1), SLICE_FRAMES)
    spectra = [_spectrum(item["waveform"], count, longest) for item, count in zip(items, frames, strict=True)]
    lesson = Lesson(
        ssl=torch.stack([_fit_ssl(item["ssl"], n, longest) for item, n in zip(items, frames, strict=True)]),
        spectrogram=torch.stack(spectra),
        frames=torch.tensor(frames),
        phone_ids=torch.nn.utils.rnn.pad_sequence([item["phones"] for item in items], batch_first=True),
        phones=torch.tensor([item["phones"].numel() for item in items]),
        speakers=torch.stack([item["speaker"] for item in items]) if is_pro else None,
    )
    waves = [_fit(item["waveform"][: n * HOP], longest * HOP) for item, n in zip(items, frames, strict=True)]
    return SoundLesson(lesson, torch.stack(waves).unsqueeze(1))


def _spectrum(waveform: Tensor, frames: int, longest: int) -> Tensor:
    return _fit(spectrogram(waveform[None, : frames * HOP])[0], longest)


def _fit_ssl(ssl: Tensor, frames: int, longest: int) -> Tensor:
    """HuBERT may give a frame less than the spectrogram has: the last is repeated."""
    if ssl.shape[1] < frames:
        ssl = functional.pad(ssl[None], (0, frames - ssl.shape[1]), mode="replicate")[0]
    return _fit(ssl[:, :frames], longest)


def _fit(x: Tensor, length: int) -> Tensor:
    return functional.pad(x, (0, length - x.shape[-1]))
