"""What a sound file says about where it came from: watermark, metadata, signed provenance. Made for hostile files."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.audio.files import read_audio, to_mono
from appliance.audio.provenance import read_provenance
from appliance.audio.tags import read_tags
from appliance.audio.watermark import find_watermark
from appliance.audio.watermark_code import PAYLOAD_BITS
from appliance.contracts import Audio, JsonDict

MAX_READ_S = 600.0
MAX_SEARCHED_S = 180.0  # an unmarked sound is searched no further; costs some 0.05 s of a core per second
_MAX_FIELD = 4_000  # characters of the metadata field


def detect_file(path: Path, key: bytes, anchors: str) -> JsonDict:
    """`{"watermark", "aigc", "provenance", "searched_s", "duration_s"}`; each mark an object or null.

    Raises what `read_audio` raises.
    """
    data = path.read_bytes()
    decoded = read_audio(data, max_duration_s=MAX_READ_S)
    searched = decoded.samples[: int(MAX_SEARCHED_S * decoded.sample_rate)]
    found = find_watermark(Audio(to_mono(searched), decoded.sample_rate), key)
    return {
        "watermark": None
        if found is None
        else {
            "mark": f"{found.payload:0{PAYLOAD_BITS // 4}x}",
            "score": found.score,
            "start_s": round(found.start_s, 2),
            "end_s": round(found.end_s, 2),
        },
        "aigc": _aigc(read_tags(data)),
        "provenance": read_provenance(data, decoded.format, anchors),
        "duration_s": round(decoded.duration_s, 2),
        "searched_s": round(len(searched) / decoded.sample_rate, 2),
    }


def _aigc(tags: dict[str, str]) -> JsonDict | None:
    """The implicit label of GB 45438-2025; what is no JSON object counts as none."""
    try:
        label = json.loads(tags.get("AIGC", "")[:_MAX_FIELD])
    except (ValueError, RecursionError):
        return None
    inner = label.get("AIGC", label) if isinstance(label, dict) else None
    return {str(name): str(value) for name, value in inner.items()} if isinstance(inner, dict) else None
