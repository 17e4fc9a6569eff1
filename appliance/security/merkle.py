"""Hashing of the audit log: leaves and nodes as in RFC 6962 (section 2.1), and a chain from entry to entry.

The chain names the first entry that was changed; the tree gives one short root to sign and to carry away.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
FIRST_LINK = bytes(HASH_BYTES)  # what the link of entry 0 goes back to


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def next_link(link: bytes, leaf: bytes) -> bytes:
    """The chain: SHA-256(0x02 || link of the entry before || leaf); 0x02 keeps it apart from leaves and nodes."""
    return sha256(b"\x02" + link + leaf).digest()


class Frontier:
    """The roots of the full subtrees of a growing Merkle tree, largest first: all that appending needs."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if len(self.peaks) != size.bit_count():
            raise ValueError("a frontier has one peak per set bit of its size")

    def add(self, leaf: bytes) -> None:
        """Append one leaf hash; full subtrees join (one node hash on average)."""
        peaks, size = self.peaks, self.size
        while size & 1:
            leaf = sha256(b"\x01" + peaks.pop() + leaf).digest()
            size >>= 1
        peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The Merkle tree hash of RFC 6962; of nothing it is SHA-256 of nothing."""
        if not self.peaks:
            return sha256().digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(b"\x01" + peak + root).digest()
        return root

    def packed(self) -> bytes:
        return b"".join(self.peaks)

    @staticmethod
    def unpacked(size: int, packed: bytes) -> Frontier:
        """What `packed` gave. Raises ValueError."""
        return Frontier(size, [packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)])
