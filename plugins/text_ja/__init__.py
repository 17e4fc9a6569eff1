"""Japanese text front end (OpenJTalk's dictionary and number rules)."""

from __future__ import annotations

from appliance_plugins.text_ja.frontend import JapaneseFrontend

from appliance.hookspecs import RegisterFrontend, hookimpl

VOICED_API = 1


@hookimpl
def register_frontends(register: RegisterFrontend) -> None:
    """Bring the front end for "ja"."""
    register("ja", JapaneseFrontend)
