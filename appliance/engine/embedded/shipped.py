"""What the normalisations of the starter voices come to, measured once and shipped: no box measures them again.

They are facts of the weights, which the package index has, and filed under the digests of model and voice: with other
weights a voice finds nothing here and is measured on the box (`measuring`). To make the file anew (after the weights,
`graphs.SURGERY` or the phrases changed; half a minute, in a checkout with the wheels):

    python -m appliance.engine.embedded.shipped

Numbers are whole steps: a 128th of a deviation for means (some of which are a hundred deviations), a 128th for the
logarithm of a deviation, and as much at the shortest phrase for what depends on the length. Phrases differ from the fit
by far more. Their bytes lie in planes, high ones first, which zip packs to a third of what the cache keeps.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.engine.embedded import assets
from appliance.engine.embedded.graphs import SURGERY
from appliance.engine.embedded.measuring import DEVIATION, LENGTHS, MEAN, PHRASES, Array, Measures

FILE = Path(__file__).parent / "data" / "starters.npz"
EDITION = hashlib.sha256(" ".join((assets.MODEL_SHA256, str(SURGERY), *PHRASES)).encode()).hexdigest()
_EDITION, _NAMES, _CHANNELS, _LUFS = "edition", "names", "channels", "lufs."
_WHOLE = np.dtype(">i4")
_STEP = 1 / 128


def read_shipped(voice: str, path: Path = FILE) -> Measures | None:
    """By `EmbeddedVoice.digest`; None for other voices, for other weights, and where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored[_EDITION]) != EDITION or voice not in stored:
                return None
            fits = _unpack(stored[voice], stored[_NAMES].tolist(), stored[_CHANNELS].tolist())
            return Measures(fits, float(stored[_LUFS + voice]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def write_shipped(measures: Mapping[str, Measures], path: Path = FILE) -> None:
    """`measures` by `EmbeddedVoice.digest`, one at least. Raises OSError."""
    fits = next(iter(measures.values())).fits
    names = sorted(fits)
    rows: dict[str, NDArray[np.generic]] = {
        _EDITION: np.array(EDITION),
        _NAMES: np.array(names),
        _CHANNELS: np.array([fits[name].shape[2] for name in names]),
    }
    for voice, one in measures.items():
        rows[voice] = _pack(one.fits)
        rows[_LUFS + voice] = np.array(one.lufs)
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **rows)  # type: ignore[arg-type]


def _pack(fits: Mapping[str, Array]) -> NDArray[np.uint8]:
    """(2, 1, C, 1) each, by name -> bytes (4, numbers)."""
    known: dict[str, Array] = {}
    steps: list[Array] = []
    for name in sorted(fits):
        one = _step(name, known)
        steps.append(np.rint(fits[name] / one))
        known[name] = steps[-1] * one
    numbers = np.concatenate([step.ravel() for step in steps]).astype(_WHOLE)
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, numbers.itemsize).T)


def _unpack(planes: NDArray[np.uint8], names: list[str], channels: list[int]) -> dict[str, Array]:
    numbers = np.ascontiguousarray(planes.T).reshape(-1).view(_WHOLE)
    pieces = np.split(numbers, np.cumsum([2 * width for width in channels])[:-1])
    known: dict[str, Array] = {}
    for name, piece in zip(names, pieces, strict=True):
        known[name] = piece.reshape(2, 1, -1, 1).astype(np.float32) * _step(name, known)
    return known


def _step(name: str, known: Mapping[str, Array]) -> Array:
    """What one step is worth, (2, 1, 1 or C, 1). Deviations are `known` before means, as their names sort."""
    step = np.array([_STEP, _STEP * LENGTHS[0]], np.float32).reshape(2, 1, 1, 1)
    if not name.startswith(MEAN):
        return step
    deviation: Array = np.exp(known[DEVIATION + name.removeprefix(MEAN)][0])
    return step * deviation


def main() -> int:
    """Measure the starter voices on ONNX Runtime, with the published arithmetic, and write the file."""
    from appliance.contracts import EngineHost
    from appliance.engine.embedded.pipeline import EmbeddedEngine
    from appliance.plugin_manager import load_plugins
    from appliance.settings import PluginSettings

    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    plugins = load_plugins(PluginSettings(), None)
    FILE.unlink(missing_ok=True)  # whatever it holds: loading the engine would use it
    with tempfile.TemporaryDirectory(prefix="voiced-measures-") as cache:
        engine = EmbeddedEngine()
        engine.load(EngineHost(plugins.make_backends(("onnxruntime",)), {}, Path(cache), threads=2))
        write_shipped(engine.measure_starters())
        engine.close()
    print(f"{FILE}: {FILE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
