"""Reading the files of artifacts, with their digests checked: runtimes do not notice flipped bytes."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Artifact
from appliance.errors import Corrupt

DIGEST_CHARACTERS = 12  # of a digest, in messages
READ_AT_ONCE = 1 << 25  # bytes; after each piece another thread may keep the interpreter for milliseconds


def read_artifact(artifact: Artifact, path: Path | None = None) -> bytes:
    """The graph (or `path`, another file of it), read once. Check it with `check_digest` before parsing.

    Raises Corrupt("artifact_corrupt") for a missing file.
    """
    try:
        return (path or artifact.path).read_bytes()
    except OSError as error:
        raise damaged(artifact, "a file", str(error.strerror)) from error


def read_checked(artifact: Artifact, *others: Path) -> list[NDArray[np.uint8]]:
    """The bytes of the graph and of `others`, each read once, in memory that a runtime may go on using without a copy
    of its own. The digest, of all one after the other, has been checked.

    Raises Corrupt("artifact_corrupt") for a missing file and for another digest.
    """
    digest = hashlib.sha256()
    found = []
    try:
        for path in (artifact.path, *others):
            content = _memory(path.stat().st_size)
            view = memoryview(content)
            with path.open("rb", buffering=0) as file:
                done = 0
                while count := file.readinto(view[done : done + READ_AT_ONCE]):
                    digest.update(view[done : done + count])
                    done += count
            found.append(np.frombuffer(content, np.uint8)[:done])
    except OSError as error:
        raise damaged(artifact, "a file", str(error.strerror)) from error
    check_digest(artifact, digest.hexdigest())
    return found


def _memory(size: int) -> mmap.mmap | bytearray:
    """Of large pages where there are such: otherwise most of the time of reading goes into taking it."""
    if not size:
        return bytearray()
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def check_digest(artifact: Artifact, found: str) -> None:
    """Raises Corrupt("artifact_corrupt") unless `found` (hexadecimal SHA-256) is what the artifact promises."""
    if artifact.sha256 and found != artifact.sha256:
        raise damaged(artifact, artifact.sha256, found)


def digest_of(artifact: Artifact) -> str:
    """SHA-256 of a file that is too large to hold. Raises Corrupt("artifact_corrupt") for a missing one."""
    digest = hashlib.sha256()
    try:
        with artifact.path.open("rb") as file:
            while block := file.read(READ_AT_ONCE):
                digest.update(block)
    except OSError as error:
        raise damaged(artifact, "a file", str(error.strerror)) from error
    return digest.hexdigest()


def damaged(artifact: Artifact, expected: str, actual: str) -> Corrupt:
    """The error for a graph that is not what it should be; digests are cut to what a person compares."""
    cut = {"expected": expected, "actual": actual}
    short = {key: text[:DIGEST_CHARACTERS] if len(text) == 64 else text[:80] for key, text in cut.items()}
    return Corrupt("artifact_corrupt", file=artifact.path.name, **short)
