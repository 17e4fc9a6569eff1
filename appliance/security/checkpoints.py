"""Checkpoints of the audit log: size and root, signed by the box; text that fits a QR code.

The form is C2SP tlog-checkpoint (origin, size, root, extension lines) inside a C2SP signed note.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from appliance.errors import InvalidInput
from appliance.security.signing import DeviceKey, PublicKey


@dataclass(frozen=True)
class Checkpoint:
    """The state of the log after `size` entries. With `is_tombstone` the entries below `size` may be gone."""

    size: int
    root: bytes  # 32 bytes
    link: bytes  # of the last entry
    at: str  # ISO 8601 UTC
    is_tombstone: bool = False

    def signed(self, key: DeviceKey) -> str:
        """The signed note."""
        lines = [
            f"{key.public.name}/audit",
            str(self.size),
            base64.b64encode(self.root).decode(),
            f"link {base64.b64encode(self.link).decode()}",
            f"time {self.at}",
            *([f"pruned {self.size}"] if self.is_tombstone else []),
        ]
        return key.sign_note("\n".join(lines) + "\n")


def read_checkpoint(note: str, key: PublicKey) -> Checkpoint:
    """The content of a note that `key` signed. Raises InvalidInput("checkpoint_invalid")."""
    body = key.opens(note.replace("\r\n", "\n").strip() + "\n")
    try:
        if body is None:
            raise ValueError("not signed by this box")
        origin, size, root, *more = body.splitlines()
        fields = dict(line.split(" ", 1) for line in more)
        if origin != f"{key.name}/audit":
            raise ValueError("of another log")
        return Checkpoint(
            int(size),
            base64.b64decode(root, validate=True),
            base64.b64decode(fields["link"], validate=True),
            fields["time"],
            is_tombstone="pruned" in fields,
        )
    except (ValueError, KeyError) as error:
        raise InvalidInput("checkpoint_invalid", problem=str(error)) from error
