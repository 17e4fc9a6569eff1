"""Whatever arrives as a sound file is either decoded within limits or refused with the right code."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio import encoding, files
from appliance.contracts import Audio
from appliance.errors import InvalidInput, TooLarge, UnsupportedMedia, VoicedError

BECKETT = Path(__file__).parents[1] / "data" / "beckett.flac"


@pytest.fixture(scope="module")
def speech() -> Audio:
    """Three seconds of a human reader at 24 kHz."""
    decoded = files.read_audio(BECKETT)
    audio = files.mono_at(decoded, 24_000)
    return Audio(audio.samples[: 3 * 24_000], 24_000)


def wav_bytes(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, subtype=subtype, format="WAV")
    return stream.getvalue()


def code_of(source: Path | bytes, **limits: float) -> str:
    with pytest.raises(VoicedError) as caught:
        files.read_audio(source, **limits)
    for language in ("en", "zh"):
        for sentence in (caught.value.message(language), caught.value.remedy(language)):
            assert sentence != f"{caught.value.code}.message" and "{" not in sentence
            assert sentence != f"{caught.value.code}.remedy"
    return caught.value.code


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Greatest normalised correlation over all shifts."""
    size = 2 * max(len(a), len(b))
    product = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)))
    return float(product.max() / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_flac_is_decoded_whole() -> None:
    decoded = files.read_audio(BECKETT)
    assert (decoded.sample_rate, decoded.channels, decoded.format) == (16_000, 1, "flac")
    assert decoded.duration_s == pytest.approx(10.0, abs=0.1)
    assert decoded.samples.dtype == np.float32 and np.isfinite(decoded.samples).all()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW"])
def test_wav_subtypes_are_read(speech: Audio, subtype: str) -> None:
    decoded = files.read_audio(wav_bytes(speech.samples, 24_000, subtype))
    assert len(decoded.samples) == len(speech.samples)
    assert similarity(decoded.samples[:, 0], speech.samples) > 0.999


def test_name_does_not_matter(tmp_path: Path, speech: Audio) -> None:
    for name in ("voice.raw", "voice.mp3", "voice"):
        path = tmp_path / name
        path.write_bytes(wav_bytes(speech.samples, 24_000))
        assert files.read_audio(path).format == "wav"


def test_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert code_of(path) == code_of(b"") == "audio_empty"


def test_header_without_samples_is_empty() -> None:
    assert code_of(wav_bytes(np.zeros(0, np.float32), 24_000)) == "audio_empty"


@pytest.mark.parametrize(
    "content", [b"Dear sir or madam, " * 100, b"\x00" * 5_000, b"RIFF\x00\x00\x00\x00WAVE", b"\xff\xfb"]
)
def test_what_is_no_sound_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.wav"
    path.write_bytes(content)
    assert code_of(path) == "audio_unreadable"


def test_noise_never_crashes_the_reader() -> None:
    rng = np.random.default_rng(1)
    whole = bytearray(encoding.encode_audio(0.1 * np.sin(np.arange(24_000, dtype=np.float32)), 24_000, "flac"))
    for _ in range(60):
        broken = bytearray(whole)
        for position in rng.integers(4, len(broken), 8):
            broken[position] = int(rng.integers(0, 256))
        try:
            assert np.isfinite(files.read_audio(bytes(broken), max_duration_s=5).samples).all()
        except VoicedError as error:
            assert error.message() != f"{error.code}.message"


def test_header_that_promises_more_than_there_is_lies(speech: Audio) -> None:
    whole = wav_bytes(speech.samples, 24_000)
    assert code_of(whole[: len(whole) // 2]) == "audio_header_lies"
    three_hours = encoding.wav_header(24_000, 3 * 3600 * 24_000) + encoding.pcm16(speech.samples)
    assert code_of(three_hours) == "audio_header_lies"
    flac = encoding.encode_audio(speech.samples, 24_000, "flac")
    assert code_of(flac[: len(flac) // 2]) in {"audio_header_lies", "audio_unreadable"}


def test_streamed_wav_of_unknown_length_is_no_lie(speech: Audio) -> None:
    content = encoding.wav_header(24_000) + encoding.pcm16(speech.samples)
    assert len(files.read_audio(content).samples) == len(speech.samples)


def test_three_hours_are_refused_by_the_header_alone() -> None:
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", 8_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(180):
            file.write(np.zeros(60 * 8_000, np.int16))
    content = stream.getvalue()
    with pytest.raises(TooLarge) as caught:
        files.read_audio(content, max_duration_s=600)
    assert caught.value.code == "audio_too_long"
    assert caught.value.measured["duration_s"] == pytest.approx(3 * 3600)


def test_length_that_no_header_tells_stops_at_the_limit() -> None:
    encoder = encoding.StreamEncoder("flac", 24_000)
    content = encoder.encode(np.zeros(24_000 * 20, np.float32)) + encoder.finish()
    with pytest.raises(TooLarge) as caught:
        files.read_audio(content, max_duration_s=5)
    assert 5 <= caught.value.measured["duration_s"] < 9  # a block over, not the whole


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(speech: Audio, poison: float) -> None:
    samples = speech.samples.copy()
    samples[1_000] = poison
    assert code_of(wav_bytes(samples, 24_000, "FLOAT")) == "audio_not_finite"


def test_absurd_values_channels_and_rates_are_refused(speech: Audio) -> None:
    assert code_of(wav_bytes(speech.samples * 1e20, 24_000, "FLOAT")) == "audio_out_of_range"
    assert code_of(wav_bytes(np.zeros((4_000, 8), np.float32), 48_000)) == "audio_too_many_channels"
    assert code_of(wav_bytes(speech.samples, 384_000)) == "audio_sample_rate_absurd"
    assert code_of(wav_bytes(speech.samples, 1_000)) == "audio_sample_rate_absurd"


def test_m4a_and_webm_are_read_where_pyav_is_installed(speech: Audio) -> None:
    av = pytest.importorskip("av")
    for container, codec, rate in (("mp4", "aac", 24_000), ("webm", "libopus", 48_000)):
        stream = io.BytesIO()
        with av.open(stream, "w", format=container) as target:
            track = target.add_stream(codec, rate=rate, layout="mono")
            sound = files.resample(speech.samples, 24_000, rate)
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=rate)
            for part in resampler.resample(frame):
                target.mux(track.encode(part))
            target.mux(track.encode(None))
        content = stream.getvalue()
        decoded = files.read_audio(content)
        assert decoded.duration_s == pytest.approx(3.0, abs=0.1)
        assert similarity(files.mono_at(decoded, 24_000).samples, speech.samples) > 0.9
        assert code_of(content, max_duration_s=1.0) == "audio_too_long"
        assert code_of(content[: len(content) // 3]) in {"audio_unreadable", "audio_header_lies"}


def test_mono_and_resampling_keep_the_sound(speech: Audio) -> None:
    stereo = np.stack([speech.samples, speech.samples], axis=1)
    assert np.allclose(files.to_mono(stereo), speech.samples, atol=1e-6)
    there = files.resample(speech.samples, 24_000, 48_000)
    back = files.resample(there, 48_000, 24_000)
    assert len(there) == 2 * len(speech.samples) and similarity(back, speech.samples) > 0.999


def test_wav_is_written_whole_or_not_at_all(tmp_path: Path, speech: Audio) -> None:
    path = tmp_path / "out.wav"
    files.write_wav(path, Audio(speech.samples * 20, 24_000))  # far over full scale: clipped, not wrapped
    assert np.abs(files.read_audio(path).samples).max() <= 1.0
    poisoned = speech.samples.copy()
    poisoned[5] = np.nan
    with pytest.raises(InvalidInput, match="audio_not_finite"):
        files.write_wav(tmp_path / "nan.wav", Audio(poisoned, 24_000))
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.wav"]


# ---------------------------------------------------------------- encoders

CODED = [name for name in encoding.FORMATS if name != "pcm"]


@pytest.mark.parametrize("rate", [24_000, 32_000, 22_050])
@pytest.mark.parametrize("name", CODED)
def test_streamed_answer_decodes_to_what_was_said(speech: Audio, name: str, rate: int) -> None:
    if name == "aac":
        pytest.importorskip("av")
    sound = files.resample(speech.samples, 24_000, rate)
    encoder = encoding.StreamEncoder(name, rate)
    pieces = [encoder.header()]
    pieces += [encoder.encode(sound[start : start + rate // 4]) for start in range(0, len(sound), rate // 4)]
    pieces.append(encoder.finish())
    assert all(pieces[2:6]), "bytes must come with each quarter of a second, not at the end"
    decoded = files.read_audio(b"".join(pieces))
    assert decoded.duration_s == pytest.approx(3.0, abs=0.12)
    heard = files.mono_at(decoded, rate).samples
    assert similarity(heard, sound) > (0.999 if name in {"wav", "flac"} else 0.9)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus"])
def test_whole_answer_tells_its_true_length(speech: Audio, name: str) -> None:
    with soundfile.SoundFile(io.BytesIO(encoding.encode_audio(speech.samples, 24_000, name))) as file:
        assert file.frames == len(speech.samples)


def test_mp3_stream_starts_without_an_empty_frame(speech: Audio) -> None:
    encoder = encoding.StreamEncoder("mp3", 24_000)
    content = encoder.encode(speech.samples) + encoder.finish()
    assert content[:2] == b"\xff\xf3" and any(content[4:40])


def test_plain_wave_reader_accepts_both_headers(speech: Audio) -> None:
    for content in (
        encoding.wav_header(24_000) + encoding.pcm16(speech.samples),
        encoding.encode_audio(speech.samples, 24_000, "wav"),
    ):
        with wave.open(io.BytesIO(content)) as reader:
            assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (24_000, 1, 2)
            assert len(reader.readframes(10**7)) == 2 * len(speech.samples)
    assert struct.unpack("<I", encoding.wav_header(24_000)[40:44])[0] == 0xFFFFFFFF


def test_no_encoder_lets_a_nan_or_an_overflow_out() -> None:
    for name in encoding.FORMATS:
        if name == "aac":
            continue
        encoder = encoding.StreamEncoder(name, 24_000)
        with pytest.raises(InvalidInput, match="audio_not_finite"):
            encoder.encode(np.array([0.0, np.nan], np.float32))
    loud = np.frombuffer(encoding.pcm16(np.array([9.0, -9.0, 1.0, 0.0], np.float32)), "<i2")
    assert loud.tolist() == [32767, -32767, 32767, 0]


def test_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput) as caught:
        encoding.StreamEncoder("midi", 24_000)
    assert caught.value.code == "format_unknown" and "opus" in caught.value.remedy("zh")


def test_refusals_have_the_right_kind() -> None:
    with pytest.raises(UnsupportedMedia):
        files.read_audio(b"hello there, this is text" * 10)
