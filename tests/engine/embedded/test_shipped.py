"""The starter voices come measured; whatever else is spoken with is measured on the box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import VoiceAssets
from appliance.engine.embedded import assets, pipeline, shipped
from appliance.engine.embedded.pipeline import EmbeddedEngine
from appliance.engine.embedded.shipped import FILE, read_shipped, write_shipped
from appliance.engine.embedded.voice import EmbeddedVoice

from .conftest import needs_weights

pytestmark = needs_weights


def test_no_starter_voice_is_measured_on_the_box(
    engine: EmbeddedEngine, starters: dict[str, VoiceAssets], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_measure", lambda *_: pytest.fail("it was measured"))
    loaded = engine._loaded
    assert loaded is not None
    speakers = [engine._speaker(replace(voice, key=f"new {name}"), loaded) for name, voice in starters.items()]
    assert all(-40 < speaker.measures.lufs < -10 for speaker in speakers)


def test_what_is_shipped_is_what_is_measured(engine: EmbeddedEngine) -> None:
    voice, loaded = EmbeddedVoice(assets.read_packs()["jm_kumo"]), engine._loaded
    assert loaded is not None
    measured, found = pipeline._measure(loaded, voice, pipeline.PHRASES), read_shipped(voice.digest())
    assert found is not None
    assert found.lufs == pytest.approx(measured.lufs, abs=0.3)
    for frames in (80, 400):
        ours, theirs = found.at(frames), measured.at(frames)
        assert sorted(ours) == sorted(theirs)
        for name in (name for name in theirs if name.startswith("deviation.")):
            assert ours[name].shape == theirs[name].shape
            assert ours[name].dtype == np.float32
            assert np.abs(np.log(ours[name] / theirs[name])).max() < 0.05  # half a dB
            mean = name.replace("deviation.", "mean.")
            assert (np.abs(ours[mean] - theirs[mean]) / theirs[name]).max() < 0.1  # deviations


def test_other_voices_and_other_weights_find_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = assets.read_packs()["jf_alpha"]
    assert read_shipped(EmbeddedVoice(pack).digest()) is not None
    assert read_shipped(EmbeddedVoice(pack, gain=1.1).digest()) is None
    monkeypatch.setattr(shipped, "EDITION", "of other weights")
    assert read_shipped(EmbeddedVoice(pack).digest()) is None


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    voice = EmbeddedVoice(assets.read_packs()["jf_alpha"]).digest()
    content = bytearray(FILE.read_bytes())
    for name, at in {"cut": len(content) // 2, "flipped": len(content)}.items():
        content[at // 3] ^= 1
        (tmp_path / name).write_bytes(content[:at])
    assert [read_shipped(voice, tmp_path / name) for name in ("cut", "absent")] == [None, None]
    assert None in [read_shipped(one, tmp_path / "flipped") for one in _voices()]  # the one whose bytes changed


def test_what_is_written_twice_is_the_same(tmp_path: Path) -> None:
    first = {voice: found for voice in _voices() if (found := read_shipped(voice)) is not None}
    write_shipped(first, tmp_path / "again.npz")
    for voice, one in first.items():
        again = read_shipped(voice, tmp_path / "again.npz")
        assert again is not None
        assert all(np.allclose(again.fits[name], row, atol=1e-6) for name, row in one.fits.items())


def test_the_file_stays_small() -> None:
    assert FILE.stat().st_size < 300_000


def _voices() -> list[str]:
    return [EmbeddedVoice(pack).digest() for pack in assets.read_packs().values()]
