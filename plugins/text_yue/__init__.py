"""Cantonese text front end (ToJyutping readings), for GPT-SoVITS v2 and later."""

from __future__ import annotations

from appliance_plugins.text_yue.frontend import CantoneseFrontend

from appliance.hookspecs import RegisterFrontend, hookimpl

VOICED_API = 1


@hookimpl
def register_frontends(register: RegisterFrontend) -> None:
    """Bring the front end for "yue"."""
    register("yue", CantoneseFrontend)
