"""Digests of files of weights: those that a voice will need are read on several cores while the first is opened."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from appliance.engine.artifact_store import digest_of_source

THREADS = 2

_File = tuple[Path, int, int, int]  # path, inode, size, time of change (ns)


class SourceDigests:
    """Each file is read once while it stays what it is. Safe across threads."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._begun: dict[_File, Future[str]] = {}
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="digest")

    def expect(self, paths: Iterable[Path]) -> None:
        """Begin to read them, in this order; whoever asks for one waits for that one only."""
        for path in paths:
            if path.is_file():
                self._begin(path)

    def of(self, path: Path | None) -> str:
        """As `digest_of_source`. Raises OSError."""
        return "" if path is None else self._begin(path).result()

    def _begin(self, path: Path) -> Future[str]:
        facts = path.stat()
        file = (path, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        with self._turn:
            begun = self._begun.get(file)
            if begun is None or (begun.done() and begun.exception()):
                begun = self._begun[file] = self._pool.submit(digest_of_source, path)
        return begun

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
