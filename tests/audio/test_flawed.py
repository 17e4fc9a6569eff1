"""Twelve flawed recordings: each gets the verdict that is right for it, with reasons in English and Chinese."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio import noise, quality
from appliance.audio.clip_checks import check_speaker, check_words
from appliance.audio.files import read_audio, resample, to_mono
from appliance.audio.music import music_share
from appliance.audio.speakers import voice_split
from appliance.audio.speech_activity import find_speech
from appliance.contracts import Audio, QualityReport, Transcript
from appliance.messages import text
from appliance.settings import IntakeSettings

ROOT = Path(__file__).parents[2]
READER = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"
OTHER_READER = ROOT / "tests" / "data" / "beckett.flac"
LIMITS = IntakeSettings()
RATE = 48_000


def reader(start_s: float = 0.0, end_s: float = 8.0) -> np.ndarray:
    samples = to_mono(read_audio(READER).samples)[int(start_s * RATE) : int(end_s * RATE)]
    return 0.5 * samples / np.abs(samples).max()


def other_reader() -> np.ndarray:
    decoded = read_audio(OTHER_READER)
    samples = resample(to_mono(decoded.samples), decoded.sample_rate, RATE)
    return 0.5 * samples / np.abs(samples).max()


def music(seconds: float) -> np.ndarray:
    """Broken chords of plucked strings with a drum."""
    time_s, rng = np.arange(int(seconds * RATE)) / RATE, np.random.default_rng(1)
    sound = np.zeros_like(time_s)
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (246.9, 311.1, 370.0))
    for beat in range(int(seconds / 0.8) + 1):
        part = (time_s >= 0.8 * beat) & (time_s < 0.8 * (beat + 1))
        since = time_s[part] - 0.8 * beat
        for hz in chords[beat % 4]:
            sound[part] += sum(np.sin(2 * np.pi * hz * h * since) / h for h in range(1, 6)) * np.exp(-1.5 * since)
        sound[part] += 0.5 * rng.standard_normal(len(since)) * np.exp(-since / 0.02)
    return 0.4 * sound / np.abs(sound).max()


def with_noise(snr_db: float) -> np.ndarray:
    voice, _ = noise.speech_and_noise_power(Audio(reader(), RATE), find_speech(Audio(reader(), RATE)))
    rng = np.random.default_rng(3)
    return 0.5 * (reader() + rng.standard_normal(8 * RATE) * np.sqrt(voice) * 10 ** (-snr_db / 20))


def with_nan() -> np.ndarray:
    samples = reader().copy()
    samples[1000] = np.nan
    return samples


def written(samples: np.ndarray, rate: int = RATE, **options: str) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples, rate, **{"format": "WAV", **options})


def three_hours(path: Path) -> None:
    """A header that promises them, and a file with holes of that length: nothing of it may be decoded."""
    soundfile.write(path, np.zeros(24_000), 24_000, format="WAV", subtype="PCM_16")
    size = 3 * 3600 * 24_000 * 2
    with path.open("r+b") as file:
        for place, value in ((4, size + 36), (40, size)):
            file.seek(place)
            file.write(value.to_bytes(4, "little"))
        file.truncate(size + 44)


FLAWED: dict[str, tuple[Callable[[], Callable[[Path], None]], str]] = {
    "too short": (lambda: written(reader(0, 1.2)), "recording_too_short"),
    "clipped": (lambda: written(np.clip(8 * reader(), -1, 1)), "recording_clipped"),
    "5 dB above the noise": (lambda: written(with_noise(5)), "snr_too_low"),
    "stereo": (lambda: written(np.stack([reader(), np.roll(reader(), 900)], 1)), "not_mono"),
    "8 kHz": (lambda: written(resample(reader(), RATE, 8_000), 8_000), "sample_rate_too_low"),
    "silence": (lambda: written(np.zeros(5 * RATE)), "recording_silent"),
    "music behind": (lambda: written(reader() + 0.15 * music(8)), "music_suspected"),
    "two speakers": (lambda: written(np.concatenate([reader(0, 6), other_reader()])), "second_speaker_suspected"),
    "NaN": (lambda: written(with_nan(), subtype="FLOAT"), "audio_not_finite"),
    "three hours": (lambda: three_hours, "audio_too_long"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAWED)
def test_a_flawed_recording_is_refused_for_its_flaw(tmp_path: Path, name: str) -> None:
    make, code = FLAWED[name]
    path = tmp_path / "clip.wav"
    make()(path)
    report = quality.check_file(path, LIMITS)
    assert not report.accepted and code in [reason.code for reason in report.reasons], report
    assert_told(report)


def assert_told(report: QualityReport) -> None:
    for reason in (*report.reasons, *report.warnings):
        for language in ("en", "zh"):
            for part in ("message", "remedy"):
                sentence = text(f"{reason.code}.{part}", language, **reason.measured)
                assert sentence != f"{reason.code}.{part}" and "{" not in sentence


def test_mp3_named_wav_is_read_for_what_it_is_and_accepted_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, reader(), RATE, format="MP3")
    report = quality.check_file(path, LIMITS)
    assert report.accepted and report.measures["format"] == "mp3"
    assert "lossy_format" in [warning.code for warning in report.warnings]
    assert_told(report)


@pytest.mark.parametrize(
    ("language", "prompt", "heard", "is_right"),
    [
        ("en", "The shop is open until nine.", "the shop's open until 9", True),
        ("en", "The shop is open until nine.", "my tailor is rich and my wife is in the garden", False),
        ("zh", "银行的工作人员提醒客户。", "银行得工作人员提醒客户", True),
        ("zh", "银行的工作人员提醒客户。", "今天天气真不错我们去公园吧", False),
        ("mixed", "请把 report 发到我的 email。", "请把report发到我的email", True),
        ("mixed", "请把 report 发到我的 email。", "", False),
    ],
)
def test_wrong_words_are_found_and_homophones_are_none(language: str, prompt: str, heard: str, is_right: bool) -> None:
    good = QualityReport(True, (), (), {})
    report = check_words(good, prompt, language, Transcript(heard, "", 1.0), LIMITS)
    assert report.accepted == is_right and [r.code for r in report.reasons] == ([] if is_right else ["wrong_words"])
    for told, start in (("en", "Please read again, because"), ("zh", "请重新朗读，因为")):
        if not is_right:
            assert text("wrong_words.remedy", told, **report.reasons[0].measured).startswith(start)
    deaf = check_words(good, prompt, language, None, LIMITS)
    assert deaf.accepted and [warning.code for warning in deaf.warnings] == ["words_not_checked"]


def test_another_speaker_than_the_sessions_is_found(tmp_path: Path) -> None:
    clips = {
        "first": reader(0, 15),
        "same": reader(20, 26),
        "other": other_reader()[: 6 * RATE],
        "short": reader(20, 22),
    }
    paths = {name: tmp_path / f"{name}.wav" for name in clips}
    for name, samples in clips.items():
        soundfile.write(paths[name], samples, RATE)
    good = QualityReport(True, (), (), {})
    verdicts = {name: check_speaker(good, paths[name], [paths["first"]], LIMITS) for name in ("same", "other", "short")}
    assert verdicts["same"].accepted and verdicts["same"].measures["speaker_cosine"] > 0.85
    assert [reason.code for reason in verdicts["other"].reasons] == ["other_speaker"]
    assert_told(verdicts["other"])
    assert verdicts["short"].accepted and verdicts["short"].measures["speaker_cosine"] is None
    assert check_speaker(good, paths["other"], [], LIMITS).accepted  # nobody to be held against


def test_one_reader_alone_is_neither_music_nor_two() -> None:
    for audio in (Audio(reader(0, 44), RATE), Audio(reader(12, 22), RATE), Audio(other_reader(), RATE)):
        assert music_share(audio) < 0.1 and (voice_split(audio) or 1.0) > 0.8
    assert music_share(Audio(music(6).astype(np.float32), RATE)) > 0.5
    hum = reader() + 0.02 * sum(np.sin(2 * np.pi * hz * np.arange(8 * RATE) / RATE) for hz in (100, 150, 200, 300))
    assert music_share(Audio(hum.astype(np.float32), RATE)) < 0.05  # a matter of the distance to the noise
    for nothing in (np.zeros(0, np.float32), np.zeros(RATE, np.float32)):
        assert music_share(Audio(nothing, RATE)) == 0.0 and voice_split(Audio(nothing, RATE)) is None
