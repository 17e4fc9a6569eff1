"""Parity: our networks and front ends against numbers that the upstream project computed.

The files lie in the folder that `VOICED_GOLDEN` names, default `../shared/golden` beside the checkout; where they are
not there, these tests are skipped. Test modules of this folder say `from parity_recipe import golden, load_npz, fill`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("parity_recipe", Path(__file__).with_name("recipe.py"))
assert spec is not None
assert spec.loader is not None
sys.modules["parity_recipe"] = recipe = importlib.util.module_from_spec(spec)
spec.loader.exec_module(recipe)
