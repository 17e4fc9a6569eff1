"""Mandarin text front end (normalisation, jieba words, pypinyin readings, tone sandhi)."""

from __future__ import annotations

from appliance_plugins.text_zh.frontend import MandarinFrontend

from appliance.hookspecs import RegisterFrontend, hookimpl

VOICED_API = 1


@hookimpl
def register_frontends(register: RegisterFrontend) -> None:
    """Bring the front end for "zh"."""
    register("zh", MandarinFrontend)
