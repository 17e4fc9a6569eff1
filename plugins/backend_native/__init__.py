"""A native kernel for networks of GPT-SoVITS, in a distribution of its own (voiced-native).

It needs a compiler to be built, which no box has to have. Imports are relative, because the package is `voiced_native`
where it is installed and a folder among the plugins where it is developed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterBackend, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Backend

VOICED_API = 1


def _make_backend() -> Backend:
    from .backend import NativeBackend

    return NativeBackend()


@hookimpl
def register_backends(register: RegisterBackend) -> None:
    """Offer the backend under the name "native"."""
    register("native", _make_backend)
