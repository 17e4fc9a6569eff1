"""Reading the files of artifacts, with their digests checked: runtimes do not notice flipped bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from appliance.contracts import Artifact
from appliance.errors import Corrupt

DIGEST_CHARACTERS = 12  # of a digest, in messages
READ_AT_ONCE = 1 << 20  # bytes


def read_artifact(artifact: Artifact, path: Path | None = None) -> bytes:
    """The graph (or `path`, another file of it), read once. Check it with `check_digest` before parsing.

    Raises Corrupt("artifact_corrupt") for a missing file.
    """
    try:
        return (path or artifact.path).read_bytes()
    except OSError as error:
        raise damaged(artifact, "a file", str(error.strerror)) from error


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
