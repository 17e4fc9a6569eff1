"""Trainers that a service manager starts (systemd/voiced-training.socket), with systemd's own socket activation."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest


@asynccontextmanager
async def activation(path: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Listen at `path` and start a trainer for every connection, as the units do."""
    if shutil.which("systemd-socket-activate") is None:
        pytest.skip("systemd-socket-activate is not installed (apt-get install systemd)")
    listener = subprocess.Popen(
        [
            *("systemd-socket-activate", "--accept", "--inetd", f"--listen={path}", "--setenv=OMP_NUM_THREADS=1"),
            *(sys.executable, "-m", "appliance.jobs.child", "--fd", "0"),
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while not path.exists():
                await asyncio.sleep(0.02)
        yield listener
    finally:
        listener.kill()
        listener.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_clone_is_made_by_a_trainer_that_is_not_our_child(tmp_path: Path, open_with: Any) -> None:
    path = tmp_path / "training.sock"
    async with activation(path) as listener, open_with(tmp_path / "state", socket=path) as box:
        job = await box.submit("hello", steps=40)
        await box.until(job, lambda found: found.stage == "fit")
        pid = box.runner._child[1].pid
        assert parent_of(pid) == listener.pid != os.getpid()
        ended = await box.finished(job)
        assert ended.state == "done", ended.error
        assert ended.result["promoted"]


async def test_cancelling_ends_the_trainer(tmp_path: Path, open_with: Any) -> None:
    path = tmp_path / "training.sock"
    async with activation(path), open_with(tmp_path / "state", socket=path) as box:
        job = await box.submit("hello", steps=2000)
        await box.until(job, lambda found: found.stage == "fit")
        pid = box.runner._child[1].pid
        await box.runner.cancel("main", job.id)
        assert (await box.finished(job)).state == "cancelled"
        assert not is_alive(pid)


async def test_a_killed_trainer_is_started_again(tmp_path: Path, open_with: Any) -> None:
    path = tmp_path / "training.sock"
    async with activation(path), open_with(tmp_path / "state", socket=path) as box:
        job = await box.submit("x", steps=60)
        await box.until(job, lambda found: found.stage == "fit")
        os.kill(box.runner._child[1].pid, signal.SIGKILL)
        ended = await box.finished(job)
        assert (ended.state, ended.crashes) == ("done", 1), ended.error


async def test_without_a_listener_the_daemon_starts_the_trainer_itself(
    tmp_path: Path, caplog: Any, open_with: Any
) -> None:
    async with open_with(tmp_path / "state", socket=tmp_path / "nobody.sock") as box:
        ended = await box.finished(await box.submit("hello", steps=5))
        assert ended.state == "done", ended.error
    assert "nobody starts trainers" in caplog.text
