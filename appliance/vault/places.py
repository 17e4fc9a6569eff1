"""Where the files of the blob store lie: plain ones by their content, encrypted ones by their plaintext and their key.

sha256/ab/cdef…           plain: what is nobody's (imported weights, starter voices, what other boxes sent)
sealed/ab/cdef…/KEY       encrypted: the same bytes of two speakers are two files, so that one can be destroyed
"""

from __future__ import annotations

from pathlib import Path


def plain_place(root: Path, digest: str) -> Path:
    return root / "sha256" / digest[:2] / digest[2:]


def sealed_folder(root: Path, digest: str) -> Path:
    return root / "sealed" / digest[:2] / digest[2:]


def sealed_copies(root: Path, digest: str) -> list[Path]:
    """The encrypted files of one content, one for each key."""
    try:
        return sorted(sealed_folder(root, digest).iterdir())
    except OSError:
        return []


def stored_bytes(root: Path, digest: str) -> int:
    """What a content takes on disk, counted once; 0 when it is not there."""
    for path in (plain_place(root, digest), *sealed_copies(root, digest)):
        try:
            return path.stat().st_size
        except OSError:
            continue
    return 0
