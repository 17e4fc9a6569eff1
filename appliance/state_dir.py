"""The folder that holds everything the box must not lose: its layout, its lock, its first token."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.errors import Conflict, StorageFull, Unavailable
from appliance.settings import Settings


@dataclass(frozen=True)
class StateDir:
    """Paths under the state directory."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "voiced.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def cache(self) -> Path:
        """May be deleted at any time: prepared graphs, the joined ASR model."""
        return self.root / "cache"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def keys(self) -> Path:
        """The box's own key pair and its certificates."""
        return self.root / "keys"

    @property
    def admin_token(self) -> Path:
        return self.root / "admin.token"

    @property
    def daemon_info(self) -> Path:
        """`{"url", "pid"}` of the running daemon, for the CLI."""
        return self.root / "daemon.json"


@contextmanager
def open_state_dir(root: Path) -> Iterator[StateDir]:
    """Create the folders (0700) and hold the lock that keeps a second daemon out.

    Raises Unavailable("state_dir_unusable"), Conflict("state_dir_locked"), StorageFull.
    """
    state = StateDir(root)
    try:
        for folder in (root, state.blobs, state.cache, state.jobs, state.plugins):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (root / "lock").open("a")
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise StorageFull("storage_full", path=str(root), free_mb=0) from error
        raise Unavailable("state_dir_unusable", path=str(root), problem=error.strerror or str(error)) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("state_dir_locked", path=str(root)) from error
        try:
            yield state
        finally:
            state.daemon_info.unlink(missing_ok=True)


def admin_token_of(settings: Settings, state: StateDir) -> str:
    """The token in force: the configured one, else the one made at first boot (256 bits, for its owner only)."""
    if settings.admin_token is not None:
        return settings.admin_token.get_secret_value()
    if not state.admin_token.is_file():
        write_private(state.admin_token, f"{secrets.token_urlsafe(32)}\n")
    return state.admin_token.read_text(encoding="ascii").strip()


def write_daemon_info(state: StateDir, info: JsonDict) -> None:
    write_private(state.daemon_info, json.dumps(info))


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
