"""Signed provenance (C2PA) for the files of a delivery, where it is wanted and a format has room for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath

from appliance.audio.provenance import MEDIA_TYPES
from appliance.contracts import DeliveredLine, JsonDict
from appliance.errors import Unavailable

Sign = Callable[[bytes, str, JsonDict], bytes]  # a file, its format, and what its manifest is to say; blocks


class Provenance:
    """Signs one file after the other and remembers why some are not. Without `sign` nothing was asked for."""

    def __init__(self, sign: Sign | None = None) -> None:
        self._sign = sign
        self._signed = 0
        self._reasons: Counter[str] = Counter()

    def put(self, path: PurePosixPath, content: bytes, line: DeliveredLine) -> bytes:
        """The file with its provenance, or as it came: a delivery does not fail for want of it."""
        if self._sign is None:
            return content
        format = path.suffix.removeprefix(".")
        if format not in MEDIA_TYPES:
            self._reasons["provenance_format"] += 1
            return content
        try:
            signed = self._sign(content, format, {"rendition": line.rendition, "voice": line.voice_version})
        except Unavailable as error:
            self._reasons[error.code] += 1
            return content
        self._signed += 1
        return signed

    def told(self) -> JsonDict:
        """For the manifest of the delivery: how many are signed, and how many are not by the code of the reason."""
        return {} if self._sign is None else {"provenance": {"signed": self._signed, "unsigned": dict(self._reasons)}}
