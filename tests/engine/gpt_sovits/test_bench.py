"""What `voiced bench` measures beside our own speed: memory of several voices, and peers; with tiny networks."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest
import torch

from appliance.cli.bench_gpt_sovits import plot_svg
from appliance.cli.bench_peer import STAGES, Peer
from appliance.cli.bench_voices import hold
from appliance.cli.machine import resident_mb
from appliance.contracts import JsonDict, VoiceAssets
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine
from appliance.engine.gpt_sovits.t2s import NAME_PREFIX
from appliance.engine.gpt_sovits.workload import Workload

from .conftest import Models, clip


def test_memory_is_told_after_each_voice_of_one_base_model_has_spoken(engine: GptSovitsEngine, models: Models) -> None:
    networks = {"s1": models.s1(1), "s2": models.s2(2)}
    clips = [models.reference(f"resident_{n}", clip(3.2 + 0.3 * n, 100.0 + 20.0 * n)) for n in range(3)]
    voices: list[VoiceAssets] = [models.voice(f"resident_{n}", networks, one) for n, one in enumerate(clips)]
    told = hold(engine, voices, "下雨了。")
    assert told["count"] == len(told["pss_mb"]) == len(told["rss_mb"]) == 3
    assert all(0 < pss <= rss for pss, rss in zip(told["pss_mb"], told["rss_mb"], strict=True))
    assert told["ratio"] == round(told["pss_mb"][-1] / told["pss_mb"][0], 3)


def test_resident_memory_grows_by_what_is_taken() -> None:
    before = resident_mb()
    taken = mmap.mmap(-1, 64 << 20)  # new pages: an allocator could give back what the process has already
    taken.write(b"x" * len(taken))
    after = resident_mb()
    assert after["pss"] - before["pss"] > 50
    assert after["rss"] - before["rss"] > 50
    taken.close()


OURS: JsonDict = {
    "audio_s": 1.0,
    "total_ms": 51.0,
    "stages": {"bert": 7.0, "prefill": 10.0, "tokens": 20.0, "sound": 10.0},
}
STAND_IN = """#!/bin/sh
echo '{"versions": {"genie-tts": "9.1", "onnxruntime": "1.2"}}'
for round in 1 2 3; do read order; echo '{"prefill": '$round'0, "tokens": 30, "sound": 40}'; done
echo "out of breath" >&2
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    """A program that answers three rounds as genie-tts' process does, and ends."""
    path = tmp_path / "python"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return str(path)


def test_a_peer_is_compared_by_the_stages_that_it_has(stand_in: str, anna: VoiceAssets, tmp_path: Path) -> None:
    peer = Peer(stand_in, anna, "v2", tmp_path / "peer")
    for _ in range(3):
        peer.speak("SHORT", Workload(1, 2, 3))
    row = peer.row("SHORT", OURS)
    assert (row["name"], row["runtime"], row["stages"]) == (
        "genie-tts 9.1",
        "onnxruntime 1.2",
        {"prefill": 25.0, "tokens": 30.0, "sound": 40.0},  # without the first round
    )
    assert (row["total_ms"], row["rtf"], row["ratio"]) == (95.0, 0.095, round(95 / 40, 2))
    assert row["ratio_with_bert"] == 2.0  # 95 and 7 of a BERT like ours, of 51
    ours = {"name": "SHORT", "model": "v2", "users": 1, **OURS}
    assert plot_svg([ours], [row]).count("<title>") == len(OURS["stages"]) + len(STAGES)
    official = torch.load(tmp_path / "peer" / "s1.ckpt", weights_only=True)["weight"]
    assert all(name.startswith(NAME_PREFIX) for name in official)
    peer.close()


def test_a_peer_that_ends_has_a_reason_and_is_left_alone(stand_in: str, anna: VoiceAssets, tmp_path: Path) -> None:
    peer = Peer(stand_in, anna, "v2", tmp_path / "peer")
    for _ in range(6):
        peer.speak("LONG", Workload(1, 2, 3))
    row = peer.row("LONG", OURS)
    assert (row["total_ms"], row["ratio"], row["stages"]) == (None, None, {})
    assert "out of breath" in row["reason"] or "BrokenPipe" in row["reason"]


@pytest.mark.parametrize(
    ("python", "version", "reason"),
    [
        (sys.executable, "v2", "genie-tts is not installed for"),
        ("/nowhere/python", "v2", "FileNotFoundError"),
        (sys.executable, "v2Pro", "no networks of v2Pro"),
    ],
)
def test_a_peer_that_cannot_be_had_is_named_with_its_reason(
    python: str, version: str, reason: str, anna: VoiceAssets, tmp_path: Path
) -> None:
    peer = Peer(python, anna, version, tmp_path / "peer")
    peer.speak("SHORT", Workload(1, 2, 3))
    assert reason in peer.row("SHORT", OURS)["reason"]
