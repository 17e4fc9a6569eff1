"""The golden files and the weights that belong to them.

Official-size networks have no weight files in the golden folder: every tensor is computed from its name, its shape and
a salt by the hash recipe of the folder's README, section 3. `conftest.py` offers this module as `parity_recipe`.
"""

from __future__ import annotations

import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

GOLDEN = Path(os.environ.get("VOICED_GOLDEN") or Path(__file__).resolve().parents[2].parent / "shared" / "golden")

# Network -> salt; the s2 salt also makes the weights of its discriminator. What the golden folder's README says, or a
# `salts.json` of these keys in it, overrides them.
SALTS: dict[str, str] = {
    "s1_tiny": "pub-a",
    "s1_full": "pub-b",
    "s2_v2": "pub-a/v2",
    "s2_v2Pro": "pub-a/v2Pro",
    "s2_v2ProPlus": "pub-a/v2ProPlus",
    "sv": "pub-a/sv",
    "hubert": "pub-a/hubert",
    "bert": "pub-a/bert",
}
# How the README of a golden folder names its salts; "<version>" in one stands for each version of s2.
README_SALTS = {
    "s1_tiny": r"s1 tiny `([^`]+)`",
    "s1_full": r"s1 full `([^`]+)`",
    "s2": r"s2 `([^`]+<version>)`",
    "sv": r"ERes2NetV2 `([^`]+)`",
    "hubert": r"recipe weights with salt `([^`]+)`",
    "bert": r"recipe salt `([^`]+)`",
}


def salts_of_readme(text: str) -> dict[str, str]:
    """The salts that a README names, by the keys of SALTS."""
    found = {network: match[1] for network, pattern in README_SALTS.items() if (match := re.search(pattern, text))}
    scheme = found.pop("s2", "")
    versions = ("v2", "v2Pro", "v2ProPlus") if scheme else ()
    return found | {f"s2_{version}": scheme.replace("<version>", version) for version in versions}


if (GOLDEN / "README.md").is_file():
    SALTS.update(salts_of_readme((GOLDEN / "README.md").read_text("utf-8")))
if (GOLDEN / "salts.json").is_file():
    SALTS.update(json.loads((GOLDEN / "salts.json").read_text("utf-8")))

Shape = tuple[int, ...]
Array = NDArray[np.float32]


def golden(path: str) -> Path:
    """A file of the golden folder; skips the test (or the module, at import) when it is not there."""
    file = GOLDEN / path
    if not file.exists():
        pytest.skip(f"no golden file {path} in {GOLDEN}; set VOICED_GOLDEN", allow_module_level=True)
    return file


def load_npz(path: str) -> dict[str, NDArray[Any]]:
    """All arrays of a golden `.npz`, by name."""
    with np.load(golden(path), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def load_json(path: str) -> Any:
    return json.loads(golden(path).read_text("utf-8"))


def load_jsonl(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in golden(path).read_text("utf-8").splitlines() if line.strip()]


def salt(network: str) -> str:
    """The salt of one network, a key of SALTS. `VOICED_GOLDEN_SALT_<NETWORK>` overrides it for one run."""
    return os.environ.get(f"VOICED_GOLDEN_SALT_{network.upper()}") or SALTS[network]


def uniform(name: str, count: int, salt: str) -> Array:
    """`count` numbers in 0 .. 1 (exclusive) that depend on salt and name only: splitmix64 of a CRC32 seed."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(zlib.crc32(f"{salt}/{name}".encode()))
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(16777216.0)


def weights(name: str, shape: Shape, salt: str) -> Array:
    """The tensor `name` of `shape`, float32 (also counters and flags)."""
    r = np.float32(2.0) * uniform(name, math.prod(shape), salt) - np.float32(1.0)
    return _shaped(name, shape, r).reshape(shape).astype(np.float32, copy=False)


def fill(shapes: Mapping[str, Any], salt: str, *, prefix: str = "") -> dict[str, Array]:
    """Weights for all of `shapes` (name -> shape); `prefix` ("model.", "net_d.") goes before the hashed names only.

    `fill({n: t.shape for n, t in net.state_dict().items()}, ...)` gives a state dict as arrays.
    """
    return {name: weights(prefix + name, tuple(shape), salt) for name, shape in shapes.items()}


def _shaped(name: str, shape: Shape, r: Array) -> Array:
    last = name.rpartition(".")[2]
    small = np.float32(0.1) * r
    if last in ("num_batches_tracked", "inited"):
        return np.full_like(r, 0.0 if last == "num_batches_tracked" else 1.0)
    if last in ("embed", "embed_avg", "cluster_size"):
        return r + np.float32(10.0) if last == "cluster_size" else r
    if last in ("running_mean", "emb_rel_k", "emb_rel_v"):
        return small if last == "running_mean" else np.float32(0.3) * r
    if last in ("running_var", "weight_g", "gamma", "alpha"):
        return small + np.float32(1.0)
    if name.endswith("prelu.weight"):
        return small + np.float32(0.25)
    if last in ("bias", "beta", "in_proj_bias"):
        return small
    if len(shape) <= 1:
        return small + np.float32(1.0)
    if "word_embeddings" in name or "text_embedding" in name:
        return r
    return _matrix(name, shape, r)


def _matrix(name: str, shape: Shape, r: Array) -> Array:
    scaled = r * np.float32(math.sqrt(3.0 / (r.size / shape[0])))
    if "ar_predict_layer" in name:
        return scaled * np.float32(4.0)
    if name in ("enc_p.proj.weight", "enc_q.proj.weight") or name.endswith(".post.weight"):
        return scaled * np.float32(0.25)
    return scaled
