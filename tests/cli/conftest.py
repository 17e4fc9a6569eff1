"""The command `voiced` in processes of its own, and a daemon for it to talk to."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

DAEMON_TESTS = Path(__file__).parents[1] / "daemon"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self):
        """The one JSON document on stdout; anything beside it is an error here."""
        return json.loads(self.out)


def run_voiced(*words: str, **environment: str) -> Outcome:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("VOICED_", "LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *words],
        env={**clean, "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=200,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def voiced(tmp_path):
    """Run a command with a state directory of its own, unless one is given."""

    def run(*words: str, **environment: str) -> Outcome:
        return run_voiced(*words, **{"VOICED_STATE_DIR": str(tmp_path / "state"), **environment})

    return run


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A daemon for each file of tests: it speaks in tones, with a token and a loudspeaker that is switched off."""
    spec = importlib.util.spec_from_file_location("cli_box", DAEMON_TESTS / "box.py")
    sys.modules["cli_box"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    running = module.tone_box(tmp_path_factory.mktemp("cli"), VOICED_HTTP__TRUST_LOOPBACK="false").start()
    yield running
    running.stop()


@pytest.fixture
def box(tones):
    """Run a command against that daemon, found by its state directory."""

    def run(*words: str, **environment: str) -> Outcome:
        return run_voiced(*words, "--state-dir", str(tones.state_dir), **environment)

    return run
