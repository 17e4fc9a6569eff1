"""English text front end (normalisation and the hibari lexicon, tagger and letter-to-sound model)."""

from __future__ import annotations

from appliance_plugins.text_en.frontend import EnglishFrontend

from appliance.hookspecs import RegisterFrontend, hookimpl

VOICED_API = 1


@hookimpl
def register_frontends(register: RegisterFrontend) -> None:
    """Bring the front end for "en"."""
    register("en", EnglishFrontend)
