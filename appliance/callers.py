"""Whom the present task works for: which voices its credential is limited to.

A context variable, so that the one way to speech can ask without every room handing it through.
"""

from __future__ import annotations

from contextvars import ContextVar

from appliance.errors import NotFound

VOICES: ContextVar[frozenset[str]] = ContextVar("voices", default=frozenset())  # voice ids; empty: every voice


def may_use(voice: str) -> bool:
    """Whether the caller's credential covers this voice; `voice` may name a version ("anna@3")."""
    allowed = VOICES.get()
    return not allowed or voice.partition("@")[0] in allowed


def require_voice(voice: str) -> None:
    """A voice outside the credential's scope does not exist for it. Raises NotFound("voice_not_found")."""
    if not may_use(voice):
        raise NotFound("voice_not_found", voice=voice[:80])
