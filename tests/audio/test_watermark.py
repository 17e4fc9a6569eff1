"""The watermark: found after ordinary handling, never where there is none, and the same however the sound was cut."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from appliance.audio.files import read_audio, to_mono
from appliance.audio.watermark import WatermarkEmbedder, embed_watermark, find_watermark
from appliance.audio.watermark_code import decode_payload, encode_payload
from appliance.contracts import Audio

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TWO_CITIES = Path(__file__).parents[2] / "appliance" / "data" / "demo" / "two_cities.flac"
PAYLOAD = 0x12_3456_789A


@pytest.fixture(scope="module")
def speech() -> Audio:
    decoded = read_audio(TWO_CITIES)
    return Audio(soxr.resample(to_mono(decoded.samples), decoded.sample_rate, 24_000), 24_000)


@pytest.fixture(scope="module")
def marked(speech) -> Audio:
    return embed_watermark(speech, KEY, PAYLOAD)


def clip(audio: Audio, start_s: float, seconds: float = 5.0) -> Audio:
    start, end = (round(moment * audio.sample_rate) for moment in (start_s, start_s + seconds))
    return Audio(audio.samples[start:end], audio.sample_rate)


def coded(audio: Audio, container: str, subtype: str, rate: int) -> Audio:
    file = io.BytesIO()
    samples = soxr.resample(audio.samples, audio.sample_rate, rate)
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.6} if container == "MP3" else {}  # 64 kbit/s
    soundfile.write(file, samples, rate, subtype, format=container, **options)
    decoded = read_audio(file.getvalue())
    return Audio(to_mono(decoded.samples), decoded.sample_rate)


HANDLING = {
    "nothing": lambda audio: audio,
    "MP3": lambda audio: coded(audio, "MP3", "MPEG_LAYER_III", 24_000),
    "Opus": lambda audio: coded(audio, "OGG", "OPUS", 24_000),
    "telephone": lambda audio: coded(audio, "WAV", "ULAW", 8_000),
    "12 dB quieter": lambda audio: Audio((audio.samples * 0.25).astype(np.float32), audio.sample_rate),
    "16 kHz": lambda audio: coded(audio, "WAV", "PCM_16", 16_000),
    "turned polarity": lambda audio: Audio(-audio.samples, audio.sample_rate),
}


@pytest.mark.parametrize("handling", HANDLING)
def test_five_seconds_anywhere_are_enough_after(handling, marked):
    found = [find_watermark(HANDLING[handling](clip(marked, start)), KEY) for start in (0.0, 11.137, 23.71)]
    assert [mark and mark.payload for mark in found] == [PAYLOAD] * 3


def test_sound_without_a_mark_or_with_another_boxs_mark_has_none(speech, marked):
    for start in range(0, 40, 8):
        assert find_watermark(clip(speech, start), KEY) is None
        assert find_watermark(clip(marked, start), OTHER) is None


def test_the_mark_does_not_depend_on_how_the_stream_was_cut(speech, marked):
    embedder, generator, parts, at = (
        WatermarkEmbedder(KEY, PAYLOAD, speech.sample_rate),
        np.random.default_rng(0),
        [],
        0,
    )
    while at < len(speech.samples):
        size = int(generator.integers(1, 6_000))
        parts.append(embedder.embed(speech.samples[at : at + size]))
        at += size
    parts.append(embedder.finish())
    np.testing.assert_array_equal(np.concatenate(parts), marked.samples)
    assert len(marked.samples) == len(speech.samples)


def test_the_mark_lies_far_below_the_sound_and_silence_stays_silence(speech, marked):
    added = marked.samples - speech.samples
    assert 20 < 10 * np.log10(np.mean(speech.samples**2) / np.mean(added**2)) < 40
    silence = Audio(np.zeros(24_000, np.float32), 24_000)
    assert not embed_watermark(silence, KEY, PAYLOAD).samples.any()


def test_a_mark_that_is_shorter_than_a_frame_harms_nothing():
    for count in (0, 1, 479, 480, 481, 961):
        samples = np.full(count, 0.1, np.float32)
        assert len(embed_watermark(Audio(samples, 24_000), KEY, PAYLOAD).samples) == count


def test_the_code_corrects_noise_and_its_check_knows_the_key():
    symbols = encode_payload(PAYLOAD, KEY)
    noisy = symbols + np.random.default_rng(1).normal(0, 1.2, len(symbols))
    assert decode_payload(noisy, KEY) == PAYLOAD
    assert decode_payload(symbols, OTHER) is None
