"""Who may do what: one table of roles and operations, one table of which route is which operation."""

from __future__ import annotations

from dataclasses import dataclass

READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Rule:
    """Operations of all routes whose path begins with `prefix`; the longest prefix counts."""

    prefix: str
    reading: str
    writing: str


RULES = (
    Rule("/tts", "speak", "speak"),
    Rule("/v1/audio/speech", "speak", "speak"),
    Rule("/v1/stream", "speak", "speak"),
    Rule("/v1/audio/voices", "voices.read", "voices.write"),
    Rule("/v1/models", "voices.read", "voices.write"),
    Rule("/v1/voices", "voices.read", "voices.write"),
    Rule("/v1/consents", "consents.read", "consents.write"),
    Rule("/v1/consent-statements", "consents.write", "consents.write"),
    Rule("/v1/speakers", "recordings.read", "speakers.erase"),
    Rule("/v1/recordings", "recordings.read", "recordings.write"),
    Rule("/v1/recording-sessions", "recordings.read", "recordings.write"),
    Rule("/v1/prompts", "recordings.read", "recordings.write"),
    Rule("/v1/datasets", "recordings.read", "recordings.write"),
    Rule("/v1/compare", "speak", "speak"),
    Rule("/v1/lineage", "recordings.read", "recordings.write"),  # it tells the words of recordings too
    Rule("/v1/recordings/check", "recordings.check", "recordings.check"),  # keeps nothing
    Rule("/v1/jobs", "jobs.read", "jobs.write"),
    Rule("/v1/weights", "weights.read", "weights.write"),
    Rule("/v1/lexicon", "lexicon.read", "lexicon.write"),
    Rule("/v1/announcements", "announcements.read", "announcements.write"),
    Rule("/v1/zones", "announcements.read", "announcements.write"),
    Rule("/v1/schedules", "announcements.read", "announcements.write"),
    Rule("/v1/music", "announcements.read", "announcements.write"),
    Rule("/v1/scripts", "scripts.read", "scripts.write"),
    Rule("/v1/dubbings", "scripts.read", "scripts.write"),
    Rule("/v1/channels", "channels.read", "channels.write"),
    Rule("/v1/peers", "channels.read", "channels.write"),
    Rule("/v1/protected-voices", "protection.read", "protection.write"),
    Rule("/v1/gate-reviews", "protection.read", "protection.write"),
    Rule("/v1/detect", "detect", "detect"),
    Rule("/v1/system", "system.read", "system.write"),
    Rule("/v1/keys", "system.read", "keys.write"),
    Rule("/v1/plugins", "system.read", "system.write"),
    Rule("/metrics", "metrics.read", "metrics.read"),
    Rule("/v1/session", "self", "self"),
    Rule("/v1/tokens", "tokens.read", "tokens.write"),
    Rule("/v1/people", "people.read", "people.write"),
    Rule("/v1/tenants", "tenants.read", "tenants.write"),
    Rule("/v1/audit", "audit.read", "audit.write"),
    Rule("/x/", "plugins.use", "plugins.use"),
)

_LISTEN = {"self", "speak", "voices.read", "detect", "scripts.read"}
_DEVELOP = _LISTEN | {"lexicon.read", "lexicon.write", "jobs.read", "system.read", "plugins.use"}
_OPERATE = _DEVELOP | {
    *("announcements.read", "announcements.write", "metrics.read", "weights.read"),
    *("scripts.read", "scripts.write", "channels.read"),
}
_STEWARD = _LISTEN | {
    *(
        "voices.write",
        "consents.read",
        "consents.write",
        "recordings.read",
        "recordings.write",
        "recordings.check",
        "jobs.read",
    ),
    *("jobs.write", "weights.read", "weights.write", "lexicon.read", "lexicon.write", "system.read"),
}
_AUDIT = {"self", "detect", "audit.read", "voices.read", "consents.read", "tokens.read", "people.read", "jobs.read"}
_ADMINISTER = (
    _OPERATE
    | _STEWARD
    | _AUDIT
    | {"protection.read", "protection.write", "speakers.erase"}  # not for those who clone
    | {"tokens.write", "people.write", "audit.write", "tenants.read", "system.write", "channels.write"}
)

ROLES: dict[str, frozenset[str]] = {
    "owner": frozenset(_ADMINISTER | {"tenants.write", "keys.write"}),  # of the box: makes tenants
    "tenant-admin": frozenset(_ADMINISTER),
    "voice-steward": frozenset(_STEWARD),  # recordings, consents, clones, versions
    "operator": frozenset(_OPERATE),  # announcements and the box
    "developer": frozenset(_DEVELOP),  # programs that speak
    "auditor": frozenset(_AUDIT),  # reads who did what; hears nothing
    "device": frozenset(_LISTEN),  # a kiosk, a telephone system
}

DOORS = {
    "tts": ("/tts",),
    "openai": ("/v1/audio/", "/v1/models"),
    "stream": ("/v1/stream",),
    "announce": ("/v1/announcements",),
    "plugins": ("/x/",),
    "wyoming": (),  # has no paths: doors/wyoming/
}


def operation_of(method: str, path: str) -> str | None:
    """The operation that a route is; None where nobody has given it a rule (only the owner may use it then)."""
    found = max(
        (rule for rule in RULES if _is_under(path, rule.prefix)), key=lambda rule: len(rule.prefix), default=None
    )
    if found is None:
        return None
    return found.reading if method in READING else found.writing


def may(role: str, operation: str | None) -> bool:
    """Whether `role` covers the operation."""
    if operation is None:
        return role == "owner"
    return operation in ROLES.get(role, frozenset())


def covers(role: str, other: str) -> bool:
    """Whether somebody of `role` may hand out `other`: nobody gives away more than they have."""
    return other in ROLES and ROLES[other] <= ROLES.get(role, frozenset())


def door_of(path: str) -> str:
    """The door that a path belongs to; "api" for the product's own resources."""
    return next((door for door, starts in DOORS.items() if path.startswith(starts)), "api")


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
