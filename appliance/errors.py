"""The few errors that cross rooms.

A class says what kind of trouble it is (and thereby which HTTP status a door answers); the `code` says exactly
which, is stable, and names the entry of the message catalogue that explains it in English and Chinese.
"""

from __future__ import annotations

from typing import Any

from appliance.messages import text


class VoicedError(Exception):
    """Base of every error that voiced raises on purpose.

    `code` is a stable key of the message catalogue; `measured` holds what was measured or asked for, as JSON values,
    and fills the placeholders of the message and of the remedy.
    """

    def __init__(self, code: str, **measured: Any) -> None:
        super().__init__(code)
        self.code = code
        self.measured = measured

    def message(self, language: str = "en") -> str:
        """What happened, for people, in `language` ("en" or "zh")."""
        return text(f"{self.code}.message", language, **self.measured)

    def remedy(self, language: str = "en") -> str:
        """What the reader can do about it, in `language` ("en" or "zh")."""
        return text(f"{self.code}.remedy", language, **self.measured)

    def __str__(self) -> str:
        return f"{self.message()} [{self.code}]"


class InvalidInput(VoicedError):
    """The request can be understood but not carried out as it is (422)."""


class UnsupportedMedia(VoicedError):
    """The bytes are not of a kind that voiced reads (415)."""


class TooLarge(VoicedError):
    """More than a documented limit allows (413)."""


class NotAuthenticated(VoicedError):
    """No credential, or none that is known (401)."""


class Forbidden(VoicedError):
    """Known, but without the right or the consent (403)."""


class NotFound(VoicedError):
    """No such thing for this tenant (404)."""


class Conflict(VoicedError):
    """The state of the thing does not allow it (409)."""


class Busy(VoicedError):
    """Too much at once (429 for one client, 503 for the box); `measured["retry_after_s"]` says when to try again."""


class Unavailable(VoicedError):
    """A part of the box is absent or failed: no model, no device, a worker that died twice (503)."""


class DeadlineExceeded(VoicedError):
    """The work did not finish in its time (504)."""


class StorageFull(VoicedError):
    """The state directory cannot take more (507)."""


class Corrupt(VoicedError):
    """Bytes at rest do not have the digest they were filed under (500); the previous version keeps serving."""


class Cancelled(VoicedError):
    """The caller gave up; nobody waits for the answer."""


_KINDS = {
    kind.__name__: kind
    for kind in (
        InvalidInput,
        UnsupportedMedia,
        TooLarge,
        NotAuthenticated,
        Forbidden,
        NotFound,
        Conflict,
        Busy,
        Unavailable,
        DeadlineExceeded,
        StorageFull,
        Corrupt,
        Cancelled,
    )
}


def error_record(error: BaseException) -> dict[str, Any]:
    """An error as JSON values, for another process; anything unforeseen becomes `internal_error` with its type only."""
    if isinstance(error, VoicedError):
        measured = {
            key: value if isinstance(value, str | int | float | bool | None) else str(value)
            for key, value in error.measured.items()
        }
        return {"kind": type(error).__name__, "code": error.code, "measured": measured}
    return {"kind": "Unavailable", "code": "internal_error", "measured": {"problem": type(error).__name__}}


def error_from_record(record: dict[str, Any]) -> VoicedError:
    """The error that `error_record` described; an unknown kind is `Unavailable`."""
    kind = _KINDS.get(str(record.get("kind")), Unavailable)
    measured = {str(key): value for key, value in dict(record.get("measured") or {}).items() if str(key) != "code"}
    return kind(str(record.get("code", "internal_error")), **measured)
