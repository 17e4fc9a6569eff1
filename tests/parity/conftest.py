"""Parity: our networks and front ends against numbers that the upstream project computed.

The files lie in the folder that `VOICED_GOLDEN` names, default `../shared/golden` beside the checkout; where they are
not there, these tests are skipped. Test modules of this folder say `from parity_recipe import golden, load_npz, fill`,
and those of s2 also `from parity_s2_files import read_tiny`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _offer(file: str) -> None:
    name = f"parity_{file}"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{file}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


for file in ("recipe", "s2_files"):
    _offer(file)
