"""DNSMOS (Microsoft, MIT): a model's opinion of how a listener would rate speech quality, 1 (bad) .. 5 (excellent).

The network takes the waveform itself; its file lies in the `speechmos` wheel and is read from there without importing
that package (which wants librosa). The three outputs are mapped by the polynomials published with the model.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from appliance.audio.files import resample
from appliance.contracts import Audio
from appliance.errors import Corrupt

MODEL_RATE = 16_000  # Hz
WINDOW_SAMPLES = int(9.01 * MODEL_RATE)
HOP_SAMPLES = MODEL_RATE
MAX_WINDOWS = 6  # evenly over the sound, 0.3 s of a core each; more change the mean by hundredths only
MODEL_SHA256 = "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd"

# coefficients, highest power first, of the published mapping: raw output -> rating
SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
OVERALL = (-0.06766283, 1.11546468, 0.04602535)


@dataclass(frozen=True)
class Rating:
    """Mean opinion scores, 1 .. 5."""

    sig: float  # the voice itself
    bak: float  # freedom from background noise
    ovrl: float  # all together

    def as_json(self) -> dict[str, float]:
        return {"sig": round(self.sig, 2), "bak": round(self.bak, 2), "ovrl": round(self.ovrl, 2)}


def model_path() -> Path | None:
    """The model file of the installed wheel, or None."""
    spec = importlib.util.find_spec("speechmos")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "dnsmos_models" / "sig_bak_ovr.onnx"
        if path.is_file():
            return path
    return None


def rate(audio: Audio) -> Rating | None:
    """Rate a mono sound; None where the model is not installed. Raises Corrupt("dnsmos_corrupt")."""
    path = model_path()
    if path is None or len(audio.samples) == 0:
        return None
    samples = np.clip(resample(audio.samples, audio.sample_rate, MODEL_RATE), -1.0, 1.0)
    if len(samples) < WINDOW_SAMPLES:
        samples = np.tile(samples, -(-WINDOW_SAMPLES // len(samples)))[:WINDOW_SAMPLES]
    count = min(MAX_WINDOWS, (len(samples) - WINDOW_SAMPLES) // HOP_SAMPLES + 1)
    starts = np.linspace(0, len(samples) - WINDOW_SAMPLES, count).astype(int)
    session = _session(path)
    raw = np.concatenate([session.run(None, {"input_1": _window(samples, start)})[0] for start in starts])  # (w, 3)
    sig, bak, ovrl = (
        float(np.polyval(curve, raw[:, column]).mean()) for column, curve in enumerate((SIGNAL, BACKGROUND, OVERALL))
    )
    return Rating(sig, bak, ovrl)


def _window(samples: np.ndarray[Any, np.dtype[np.float32]], start: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return samples[None, start : start + WINDOW_SAMPLES].astype(np.float32)


@lru_cache(maxsize=1)
def _session(path: Path) -> Any:
    import onnxruntime

    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != MODEL_SHA256:
        raise Corrupt("dnsmos_corrupt", file=path.name, sha256=digest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
