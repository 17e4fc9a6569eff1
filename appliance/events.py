"""What the audit log is told: who did what to which voice, on whose consent. Rooms tell it; `security.audit` writes it.

An event never holds a text, a recording or a secret: only ids, digests and figures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

ACTOR: ContextVar[str] = ContextVar("actor", default="box")  # set per request by the door that let somebody in

UNLABELLED = "speech.unlabelled"  # an action: speech that left without an audible label, by agreement
DONE, REFUSED, FAILED, ASKED = "done", "refused", "failed", "asked"


@dataclass(frozen=True)
class Event:
    """One thing that happened. Build it on the event loop: a writer thread does not know who asked."""

    tenant: str
    action: str  # "consent.revoke", "token.issue", "speech": a noun, then what became of it
    voice: str = ""  # "anna" or, where a version is known, "anna@3"
    subject: str = ""  # id of what it was done to: a consent, a token, a job, a rendition, the payload of a mark
    consent: str = ""  # id of the consent it rests on
    text_digest: str = ""  # `AuditLog.text_digest`: keyed, because short texts can be guessed from a bare digest
    output_digest: str = ""  # SHA-256 (hex) of the sound or the file that left
    outcome: str = DONE
    details: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    actor: str = field(default_factory=ACTOR.get)


Witness = Callable[[sqlite3.Connection, Event], int]
"""Writes an event inside the caller's transaction: what cannot be witnessed does not happen. Returns the index."""
