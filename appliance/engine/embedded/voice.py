"""What one voice changes in the shared graphs: a style pack, and for a clone a timbre, AdaIN biases and an F0 warp."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import VoiceAssets
from appliance.engine.embedded.assets import PACK_SHAPE
from appliance.errors import Corrupt

TIMBRE = 128  # the first half of a style row shapes the decoder, the second half the prosody
VOICED_FLOOR_HZ = 40.0  # predicted F0 below this is silence or an unvoiced phone
F0_RANGE_HZ = (50.0, 700.0)  # what the excitation can carry without aliasing into a buzz
MAX_GAIN_DB = 24.0

Array = NDArray[np.float32]


@dataclass(frozen=True)
class F0Warp:
    """Moves the median from source to target and stretches the spread (in semitones) by `scale`."""

    source_median_hz: float
    target_median_hz: float
    scale: float = 1.0

    def apply(self, f0: Array) -> Array:
        """F0 in Hz, any shape; frames below the voicing floor stay as they are."""
        ratio = np.maximum(f0, 1.0) / self.source_median_hz
        moved = np.clip(self.target_median_hz * ratio**self.scale, *F0_RANGE_HZ)
        return np.where(f0 > VOICED_FLOOR_HZ, moved, f0).astype(np.float32)


@dataclass(frozen=True)
class EmbeddedVoice:
    """One voice version, read and checked."""

    pack: Array  # (510, 256)
    timbre: Array | None = None  # (128,), replaces the timbre half of every row
    biases: Mapping[str, Array] = field(default_factory=dict)  # AdaIN bias name -> values
    warp: F0Warp | None = None
    gain: float = 1.0  # linear

    def digest(self) -> str:
        """SHA-256 of everything above: equal voices, whatever they are called, have equal digests."""
        found = hashlib.sha256(repr((self.warp, self.gain)).encode())
        named = {"pack": self.pack, **self.biases} | ({} if self.timbre is None else {"timbre": self.timbre})
        for name, values in sorted(named.items()):
            found.update(name.encode() + b"\0" + np.ascontiguousarray(values).tobytes())
        return found.hexdigest()

    def style(self, phones: int) -> tuple[Array, Array]:
        """(timbre (1, 128), prosody (1, 128)) for a sentence of `phones` symbols."""
        row = self.pack[min(max(phones, 1), len(self.pack)) - 1]
        timbre = row[:TIMBRE] if self.timbre is None else self.timbre
        return timbre[None], row[None, TIMBRE:]


def read_voice(assets: VoiceAssets, adaptable: Mapping[str, int]) -> EmbeddedVoice:
    """Read the files of one voice version.

    `adaptable` gives the allowed names and lengths of biases. Raises Corrupt("voice_files_corrupt") for a file that is
    missing, unreadable, of a wrong shape, of an unknown name, or not finite.
    """
    pack = _read_pack(_file(assets, "pack"))
    warp, gain = _read_warp(assets), _read_gain(assets)
    if "adaptation" not in assets.files:
        return EmbeddedVoice(pack, warp=warp, gain=gain)
    timbre, biases = _read_adaptation(_file(assets, "adaptation"), adaptable)
    return EmbeddedVoice(pack, timbre, biases, warp, gain)


def _file(assets: VoiceAssets, role: str) -> Path:
    path = assets.files.get(role)
    if path is None or not path.is_file():
        raise Corrupt("voice_files_corrupt", file=role, reason="it is not there")
    return path


def _read_pack(path: Path) -> Array:
    try:
        pack = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Corrupt("voice_files_corrupt", file="pack", reason=str(error)) from error
    return _checked(pack, "pack", PACK_SHAPE)


def _read_adaptation(path: Path, adaptable: Mapping[str, int]) -> tuple[Array | None, dict[str, Array]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, NDArray[Any]] = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise Corrupt("voice_files_corrupt", file="adaptation", reason=str(error)) from error
    style = tensors.pop("style", None)
    unknown = sorted(set(tensors) - set(adaptable))
    if unknown:
        raise Corrupt("voice_files_corrupt", file="adaptation", reason=f"unknown tensor {unknown[0]}")
    timbre = None if style is None else _checked(style.reshape(-1), "style", (TIMBRE,))
    return timbre, {name: _checked(values, name, (adaptable[name],)) for name, values in tensors.items()}


def _checked(values: Any, name: str, shape: tuple[int, ...]) -> Array:
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.float32:
        raise Corrupt("voice_files_corrupt", file=name, reason=f"it is not float32 {shape}")
    if not np.isfinite(values).all():
        raise Corrupt("voice_files_corrupt", file=name, reason="it holds values that are not finite")
    return np.ascontiguousarray(values)


def _read_warp(assets: VoiceAssets) -> F0Warp | None:
    row = assets.settings.get("f0")
    if row is None:
        return None
    try:
        warp = F0Warp(float(row["source_median_hz"]), float(row["target_median_hz"]), float(row.get("scale", 1.0)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt("voice_files_corrupt", file="settings.f0", reason=repr(error)) from error
    low, high = F0_RANGE_HZ
    if not (low <= warp.source_median_hz <= high and low <= warp.target_median_hz <= high and 0.0 <= warp.scale <= 4.0):
        raise Corrupt("voice_files_corrupt", file="settings.f0", reason=f"{warp} is out of range")
    return warp


def _read_gain(assets: VoiceAssets) -> float:
    decibels = assets.settings.get("gain_db", 0.0)
    if not isinstance(decibels, int | float) or not math.isfinite(decibels) or abs(decibels) > MAX_GAIN_DB:
        raise Corrupt("voice_files_corrupt", file="settings.gain_db", reason=f"{decibels!r} is out of range")
    return float(10.0 ** (decibels / 20.0))
