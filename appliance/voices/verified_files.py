"""Files of voices, checked against their digests before an engine reads them; the large ones on several cores at once.

What was hashed is remembered for the life of the process, by inode, size and time of change: weights are hashed when a
voice is used for the first time and again after their file has changed, small files every time. Hashing gives up the
interpreter's lock, so two threads take half the time of one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from appliance.errors import Corrupt
from appliance.voices.blobs import BlobStore, digest_of

ALWAYS_BYTES = 8 << 20  # a few ms to hash; a larger file is hashed again only after it changed
MOST_THREADS = 4  # more do not help one disk

_Seen = tuple[str, int, int, int]  # path, inode, size, time of change (ns)


class VerifiedFiles:
    """The way from a voice's digests to files that hold what these promise. Safe across threads."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._verified: dict[str, _Seen] = {}  # digest -> the file when it was last hashed
        self._turns: dict[str, threading.Lock] = {}  # digest -> whose turn it is to hash it

    def paths(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Role -> digest becomes role -> file with exactly this content.

        Raises as `BlobStore.path`, among them Corrupt("blob_corrupt") for a file in which a bit has changed.
        """
        places = {role: self._blobs.path(digest) for role, digest in files.items()}
        distinct = {files[role]: place for role, place in places.items()}
        due = [digest for digest, place in distinct.items() if self._is_due(digest, place)]
        due.sort(key=lambda digest: distinct[digest].stat().st_size, reverse=True)  # the longest must not come last
        threads = min(MOST_THREADS, os.cpu_count() or 1, len(due))
        if threads < 2 or distinct[due[1]].stat().st_size <= ALWAYS_BYTES:
            for digest in due:
                self._check(digest, distinct[digest])
            return places
        with ThreadPoolExecutor(threads, thread_name_prefix="digest") as pool:
            for checked in [pool.submit(self._check, digest, distinct[digest]) for digest in due]:
                checked.result()
        return places

    def _is_due(self, digest: str, place: Path) -> bool:
        seen = _look_at(place)
        return seen[2] <= ALWAYS_BYTES or self._verified.get(digest) != seen

    def _check(self, digest: str, place: Path) -> None:
        """Who needs a file that another request is hashing waits for that. Raises Corrupt("blob_corrupt")."""
        with self._turns.setdefault(digest, threading.Lock()):
            seen = _look_at(place)
            if not self._is_due(digest, place):
                return
            found = digest_of(place)
            if found != digest:
                raise Corrupt("blob_corrupt", digest=digest, found=found)
            self._verified[digest] = seen


def _look_at(path: Path) -> _Seen:
    facts = path.stat()
    return str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns
