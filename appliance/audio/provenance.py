"""Signed provenance (C2PA) inside sound files: who made it, with what kind of source, unchanged since.

`c2pa-python` does the work where it is installed (the extra `provenance`). Nothing is fetched from any network.
"""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import dataclass
from typing import Any

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, Unavailable

MEDIA_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac"}  # formats that can carry it
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True)
class Credential:
    """A certificate chain (PEM, leaf first) and the leaf's private key (PEM, P-256)."""

    chain: str
    key: bytes


def is_available() -> bool:
    return importlib.util.find_spec("c2pa") is not None


def sign_file(data: bytes, format: str, credential: Credential, facts: JsonDict) -> bytes:
    """The same sound with a signed manifest that says it was generated; `facts` go into it as they are.

    Blocks some 10 ms. Raises Unavailable("provenance_missing"), InvalidInput("provenance_format").
    """
    if format not in MEDIA_TYPES:
        raise InvalidInput("provenance_format", format=format, known=", ".join(MEDIA_TYPES))
    c2pa = _library()
    manifest = {
        "claim_generator_info": [{"name": "voiced"}],
        "title": f"speech.{format}",
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": GENERATED}]},
            },
            {"label": "org.voiced.rendition", "data": facts},
        ],
    }
    info = c2pa.C2paSignerInfo(b"es256", credential.chain.encode(), credential.key, None)
    signed = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
        builder.sign(signer, MEDIA_TYPES[format], io.BytesIO(data), signed)
    return signed.getvalue()


def read_provenance(data: bytes, format: str, anchors: str) -> JsonDict | None:
    """What a file's manifest says and whether it holds; None when there is none or nothing here can read it.

    `anchors` (PEM) are the authorities that count as trusted: this box's own. `state` is "trusted" (signed by one of
    them, unchanged), "valid" (unchanged, signer unknown) or "invalid" (changed since, or a broken signature).
    """
    if format not in MEDIA_TYPES or not is_available():
        return None
    c2pa = _library()
    rules = {
        "trust": {"trust_anchors": anchors},
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
    }
    try:
        context = c2pa.Context(settings=c2pa.Settings.from_dict(rules))
        with c2pa.Reader(MEDIA_TYPES[format], io.BytesIO(data), context=context) as reader:
            told: JsonDict = json.loads(reader.json())
    except c2pa.C2paError:
        return None
    manifest = told["manifests"].get(told.get("active_manifest"), {})
    signature = manifest.get("signature_info", {})
    assertions = manifest.get("assertions", ())
    return {
        "state": str(told.get("validation_state", "invalid")).lower(),
        "signer": signature.get("common_name"),
        "issuer": signature.get("issuer"),
        "generated": any(_is_generated(assertion) for assertion in assertions),
        "facts": next((one["data"] for one in assertions if one["label"] == "org.voiced.rendition"), None),
    }


def _is_generated(assertion: JsonDict) -> bool:
    data = assertion.get("data")
    if not assertion["label"].startswith("c2pa.actions") or not isinstance(data, dict):
        return False  # whoever signed may have put anything there
    return any(isinstance(one, dict) and one.get("digitalSourceType") == GENERATED for one in data.get("actions") or ())


def _library() -> Any:
    try:
        import c2pa
    except ImportError as error:
        raise Unavailable("provenance_missing") from error
    return c2pa
