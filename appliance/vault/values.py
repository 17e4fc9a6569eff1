"""Encrypted values in rows: words and voiceprints of a speaker, under the speaker's key.

A row says by its value whether it is encrypted, so rows of older releases are read as they are.
"""

from __future__ import annotations

import base64
import binascii

from appliance.errors import Corrupt, NotFound, Unavailable
from appliance.vault.keys import Owner
from appliance.vault.room import Vault
from appliance.vault.sealing import Damaged, key_id_of, seal, unseal

_MARK = "sealed:"
_HEAD_CHARACTERS = 60  # of base64: more than the header that a key id is read from


def seal_text(vault: Vault | None, text: str, owner: Owner, context: str) -> str:
    """`text` as it is stored; without a vault, and where there is nothing to hide, as it is.

    `context` names the place ("transcript rec_1"): a value that was moved elsewhere does not open there.
    """
    if vault is None or not text:
        return text
    sealed = seal(text.encode("utf-8", "surrogatepass"), vault.keys.of(owner), context.encode())
    return _MARK + base64.b64encode(sealed).decode()


def open_text(vault: Vault | None, stored: str, context: str) -> str:
    """What was stored; empty where its key was destroyed. Raises Corrupt("value_corrupt"), Unavailable."""
    if not is_sealed_text(stored):
        return stored
    try:
        return _open(vault, base64.b64decode(stored[len(_MARK) :], validate=True), context).decode(
            "utf-8", "surrogatepass"
        )
    except NotFound:
        return ""
    except (Damaged, binascii.Error, UnicodeDecodeError) as error:
        raise Corrupt("value_corrupt", value=context) from error


def is_sealed_text(stored: str) -> bool:
    """Whether it is encrypted: by its mark, and by what stands behind it."""
    if not stored.startswith(_MARK):
        return False
    head = stored[len(_MARK) : len(_MARK) + _HEAD_CHARACTERS]
    try:
        return key_id_of(base64.b64decode(head, validate=True)) is not None
    except binascii.Error:
        return False


def seal_bytes(vault: Vault | None, data: bytes, owner: Owner, context: str) -> bytes:
    """`seal_text` for bytes."""
    return data if vault is None else seal(data, vault.keys.of(owner), context.encode())


def open_bytes(vault: Vault | None, stored: bytes, context: str) -> bytes | None:
    """What was stored; None where its key was destroyed. Raises Corrupt("value_corrupt"), Unavailable."""
    if key_id_of(stored) is None:
        return stored
    try:
        return _open(vault, stored, context)
    except NotFound:
        return None
    except Damaged as error:
        raise Corrupt("value_corrupt", value=context) from error


def _open(vault: Vault | None, sealed: bytes, context: str) -> bytes:
    if vault is None:
        raise Unavailable("keys_unusable", path=context, problem="opened without keys")
    return unseal(sealed, vault.keys.get, context.encode())
