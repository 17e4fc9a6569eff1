"""Korean text front end (g2pk2's rules of pronunciation on MeCab's words, spelt in letters)."""

from __future__ import annotations

from appliance_plugins.text_ko.frontend import KoreanFrontend

from appliance.hookspecs import RegisterFrontend, hookimpl

VOICED_API = 1


@hookimpl
def register_frontends(register: RegisterFrontend) -> None:
    """Bring the front end for "ko"."""
    register("ko", KoreanFrontend)
