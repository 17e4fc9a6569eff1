"""The embedded engine: speaks Chinese, English and Japanese on a fresh machine, and clones.

Importing this package is free: models, numpy arrays and libraries are touched by `EmbeddedEngine` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterEngine, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Engine

VOICED_API = 1


def _make_engine() -> Engine:
    from appliance.engine.embedded.pipeline import EmbeddedEngine

    return EmbeddedEngine()


@hookimpl
def register_engines(register: RegisterEngine) -> None:
    """Offer the engine under the name "embedded"."""
    register("embedded", _make_engine)
