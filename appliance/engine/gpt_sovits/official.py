"""A voice's two networks as the files that GPT-SoVITS itself writes and reads: the way out of this box.

`NAME-eEPOCHS.ckpt` and `NAME_eEPOCHS_sSTEPS.pth`, in half precision, with the configuration as it came, less the part
that only teaches (`enc_q`), and with the two bytes that newer versions begin with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.pickle_writing import Ordered, write_archive
from appliance.engine.gpt_sovits.pickles import Bag
from appliance.errors import Corrupt

HEADERS = {"v2Pro": "05", "v2ProPlus": "06"}  # others begin as any archive does
POSTERIOR = "enc_q"
NOT_OF_OFFICIAL_S1 = ("version",)  # what an import added


@dataclass(frozen=True)
class Exported:
    s1: Path
    s2: Path


def export_pair(name: str, files: Mapping[str, Path], training: JsonDict, folder: Path) -> Exported:
    """Write both files into `folder`. `files` are the roles of a voice, `training` what its settings say of it.

    `folder` exists. Raises Corrupt("voice_files_corrupt") for numbers that half precision does not hold, OSError.
    """
    s1_epochs, s2_epochs = int(training.get("s1_epochs", 1)), int(training.get("s2_epochs", 1))
    steps = int(training.get("s2_steps", 0))
    s1 = folder / f"{name}-e{s1_epochs}.ckpt"
    config = {key: value for key, value in _config(files["s1_config"]).items() if key not in NOT_OF_OFFICIAL_S1}
    weights = Ordered(_read_halved(files["s1"], "s1"))
    write_archive(s1, Ordered({"weight": weights, "config": config, "info": f"GPT-e{s1_epochs}"}))

    s2, config = folder / f"{name}_e{s2_epochs}_s{steps}.pth", _config(files["s2_config"])
    version = str(config.get("version") or "v2")
    content = {
        "weight": {key: one for key, one in _read_halved(files["s2"], "s2").items() if POSTERIOR not in key},
        "config": _bags(config),
        "info": f"{s2_epochs}epoch_{steps}iteration",
    }
    write_archive(s2, Ordered(content), HEADERS.get(version, ""))
    return Exported(s1, s2)


def _config(path: Path) -> JsonDict:
    found: JsonDict = json.loads(path.read_text("utf-8"))
    return found


def _bags(value: Any) -> Any:
    """Every table of the configuration is an attribute bag."""
    return Bag({key: _bags(part) for key, part in value.items()}) if isinstance(value, dict) else value


def _read_halved(path: Path, role: str) -> dict[str, NDArray[Any]]:
    """In the order of their names."""
    found: dict[str, NDArray[Any]] = {}
    for name, numbers in sorted(load_file(path).items()):
        with np.errstate(over="ignore"):  # told by name below
            halves = numbers.astype(np.float16) if numbers.dtype.kind == "f" else numbers
        if not np.isfinite(halves).all():
            raise Corrupt("voice_files_corrupt", file=role, reason=f"{name} does not fit half precision")
        found[name] = halves
    return found
