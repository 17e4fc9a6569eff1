"""The box's own key: an Ed25519 pair made at first boot, and what is derived from it.

The private half never leaves the state directory. The public half and its fingerprint are for everybody: whoever noted
them once can tell later whether an audit checkpoint or a certificate comes from this box.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from appliance.errors import Corrupt
from appliance.state_dir import write_private

_ED25519 = b"\x01"  # algorithm byte of the signed-note format
PUBLIC_NAME = "device.pub"


@dataclass(frozen=True)
class PublicKey:
    """The half that verifies. `name` stands in signatures: "voiced-" and the first digits of the fingerprint."""

    raw: bytes  # 32 bytes, RFC 8032

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw key, hex."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def name(self) -> str:
        return f"voiced-{self.fingerprint[:16]}"

    @property
    def hint(self) -> bytes:
        """Four bytes that lead a verifier to the right key (C2SP signed-note)."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def opens(self, note: str) -> str | None:
        """The body of a signed note when one of its signatures is ours and right, else None."""
        body, separator, signatures = note.partition("\n\n")
        for line in signatures.splitlines() if separator else ():
            dash, _, rest = line.partition(" ")
            name, _, encoded = rest.partition(" ")
            if dash != "—" or name != self.name:
                continue
            try:
                decoded = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                continue
            if decoded[:4] == self.hint and self.verifies(decoded[4:], f"{body}\n".encode()):
                return f"{body}\n"
        return None

    def verifier(self) -> str:
        """The key as one line for people and programs: name+hint+base64 (C2SP signed-note)."""
        return f"{self.name}+{self.hint.hex()}+{base64.b64encode(_ED25519 + self.raw).decode()}"


def read_public_key(line: str) -> PublicKey:
    """What `PublicKey.verifier` wrote. Raises Corrupt("device_key_damaged")."""
    try:
        raw = base64.b64decode(line.strip().split("+", 2)[2], validate=True)
    except (IndexError, ValueError) as error:
        raise Corrupt("device_key_damaged", path=PUBLIC_NAME) from error
    if len(raw) != 33 or raw[:1] != _ED25519:
        raise Corrupt("device_key_damaged", path=PUBLIC_NAME)
    return PublicKey(raw[1:])


class DeviceKey:
    """The pair. Safe across threads."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self.private = private
        self.public = PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, message: bytes) -> bytes:
        """64 bytes, RFC 8032."""
        return self.private.sign(message)

    def sign_note(self, body: str) -> str:
        """A signed note (C2SP): `body`, which ends with a newline, an empty line, and our signature line."""
        signature = base64.b64encode(self.public.hint + self.sign(body.encode())).decode()
        return f"{body}\n— {self.public.name} {signature}\n"

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """A secret of its own for `purpose` (HKDF-SHA256, RFC 5869): the same on every start of this box."""
        seed = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return HKDF(SHA256(), length, salt=b"voiced", info=purpose.encode()).derive(seed)


def open_device_key(folder: Path) -> DeviceKey:
    """The pair in `folder`, made at first boot (`device.key`, 0600). Raises Corrupt("device_key_damaged")."""
    path = folder / "device.key"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        seed = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        write_private(path, f"{base64.b64encode(seed).decode()}\n")
    try:
        key = DeviceKey(
            Ed25519PrivateKey.from_private_bytes(base64.b64decode(path.read_text(encoding="ascii"), validate=False))
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise Corrupt("device_key_damaged", path=str(path)) from error
    public = folder / PUBLIC_NAME
    if not public.exists() or public.read_text(encoding="utf-8").strip() != key.public.verifier():
        write_private(public, f"{key.public.verifier()}\n")
    return key
