"""Writes a checkpoint as safetensors and JSON: the only form in which weights are kept and loaded.

Equal checkpoints give equal bytes, so that importing a file twice files it once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.archives import Tensor
from appliance.engine.gpt_sovits.checkpoint import Checkpoint

_DTYPES = {"float16": "F16", "float32": "F32", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8"}
_DTYPES |= {"uint8": "U8", "bool": "BOOL"}


@dataclass(frozen=True)
class Converted:
    weights: Path  # safetensors; its metadata has kind, version and the configuration as well
    config: Path  # JSON


def convert(checkpoint: Checkpoint, stem: Path) -> Converted:
    """Write `STEM.safetensors` and `STEM.json`, flushed to the disk. Raises OSError."""
    weights, config = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
    document = _canonical(checkpoint.config)
    _write_safetensors(
        weights,
        checkpoint.tensors,
        {"kind": checkpoint.kind, "version": checkpoint.version, "config": document},
    )
    config.write_text(document, encoding="utf-8")
    return Converted(weights, config)


def _canonical(value: JsonDict) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """https://github.com/huggingface/safetensors: length, JSON header padded to 8 bytes, numbers in header order."""
    header: JsonDict = {"__metadata__": dict(metadata)}
    offset = 0
    ordered = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))  # aligned, whatever is mixed
    for name in ordered:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype.name],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())
        file.flush()
        os.fsync(file.fileno())
