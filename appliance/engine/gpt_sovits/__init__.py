"""The GPT-SoVITS engine: speaks in voices made of official v2, v2Pro and v2ProPlus weights that the operator imported.

Importing this package is free: PyTorch is imported by the networks only, when the engine loads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterEngine, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Engine

VOICED_API = 1


def _make_engine() -> Engine:
    from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine

    return GptSovitsEngine()


@hookimpl
def register_engines(register: RegisterEngine) -> None:
    """Offer the engine under the name "gpt_sovits"."""
    register("gpt_sovits", _make_engine)
