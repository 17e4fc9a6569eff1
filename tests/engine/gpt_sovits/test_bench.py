"""What `voiced bench` measures beside time: memory of several voices, with tiny networks."""

from __future__ import annotations

from appliance.cli.bench_voices import hold
from appliance.cli.machine import resident_mb
from appliance.contracts import VoiceAssets
from appliance.engine.gpt_sovits.pipeline import GptSovitsEngine

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
    taken = bytearray(b"x") * (64 << 20)
    after = resident_mb()
    assert after["pss"] - before["pss"] > 50
    assert after["rss"] - before["rss"] > 50
    assert len(taken) == 64 << 20
