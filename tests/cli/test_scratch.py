"""Folders of commands: gone when their command is, even one that was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile

from appliance.cli.scratch import scratch_folder

HOLD = """
import sys, time
from appliance.cli.scratch import scratch_folder
with scratch_folder("bench") as folder:
    (folder / "large").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


def hold() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_command_left_is_removed_by_the_next_and_what_is_in_use_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed, living = hold(), hold()
    try:
        left, used = (process.stdout.readline().strip() for process in (killed, living))
        (tmp_path / "voiced-bench-file").write_text("no folder")
        killed.kill()
        killed.wait()
        with scratch_folder("other"):
            assert {str(path) for path in tmp_path.glob("voiced-bench-*/")} >= {left, used}
        with scratch_folder("bench") as mine:
            assert {str(path) for path in tmp_path.iterdir() if path.is_dir()} == {used, str(mine)}
        assert not mine.exists()
        living.communicate("")
        assert [path.name for path in tmp_path.iterdir()] == ["voiced-bench-file"]
    finally:
        for process in (killed, living):
            process.kill()
            process.communicate()
