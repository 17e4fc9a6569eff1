"""Likeness and speaker embeddings on real speech: the same reader must win over another, by every measure."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio.likeness import Likeness, Mixture, speech_cepstra
from appliance.audio.speaker_embedding import likeness_cosine, load_speaker_encoder
from appliance.contracts import Audio
from appliance.errors import InvalidInput

SPEECH = (Path("appliance/data/demo"), Path("../shared/data/speech"))


@cache
def speech(name: str) -> Audio:
    root = Path(__file__).parents[2]
    found = next((root / folder / name for folder in SPEECH if (root / folder / name).is_file()), None)
    if found is None:
        pytest.skip(f"no recording {name} in this checkout")
    samples, rate = soundfile.read(found, dtype="float32")
    return Audio(samples, rate)


def part(audio: Audio, start_s: float, end_s: float) -> Audio:
    return Audio(audio.samples[int(start_s * audio.sample_rate) : int(end_s * audio.sample_rate)], audio.sample_rate)


def test_held_out_speech_of_the_reader_scores_above_another_reader() -> None:
    reader, other = speech("two_cities.flac"), speech("beckett.flac")
    likeness = Likeness(part(reader, 0, 20), [part(other, 0, 5)])
    same, different = likeness.score(part(reader, 30, 44)), likeness.score(part(other, 5, 10))
    assert same.mfcc_distance < different.mfcc_distance
    assert same.llr > 0 > different.llr
    assert same.llr_equalised > 0 > different.llr_equalised


def test_equalised_ratio_ignores_a_fixed_filter() -> None:
    reader, other = speech("two_cities.flac"), speech("beckett.flac")
    likeness = Likeness(part(reader, 0, 20), [other])
    plain = part(reader, 30, 38)
    tilted = Audio(np.diff(plain.samples, prepend=np.float32(0)), plain.sample_rate)
    before, after = likeness.score(plain), likeness.score(tilted)
    assert after.mfcc_distance > before.mfcc_distance + 1
    assert after.llr_equalised == pytest.approx(before.llr_equalised, abs=0.5)


def test_loudness_and_sample_rate_do_not_matter() -> None:
    reader = speech("two_cities.flac")
    likeness = Likeness(part(reader, 0, 10), [speech("beckett.flac")])
    excerpt = part(reader, 30, 36)
    quiet = Audio(excerpt.samples * np.float32(0.2), excerpt.sample_rate)
    first, second = likeness.score(excerpt), likeness.score(quiet)
    assert second.llr == pytest.approx(first.llr, abs=0.3)


def test_too_little_speech_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        speech_cepstra(Audio(np.zeros(8000, np.float32), 16_000))
    assert caught.value.code == "speech_too_short"


def test_mixture_finds_two_clusters_and_is_repeatable() -> None:
    generator = np.random.default_rng(3)
    frames = np.concatenate([generator.normal(-4, 1, (500, 3)), generator.normal(4, 1, (500, 3))])
    first, second = Mixture.fit(frames, 2), Mixture.fit(frames, 2)
    assert np.array_equal(first.means, second.means)
    assert sorted(first.means[:, 0]) == pytest.approx([-4, 4], abs=0.2)
    assert first.log_likelihood(frames).mean() > first.log_likelihood(frames * 3).mean()


def test_embeddings_tell_readers_apart() -> None:
    encoder = load_speaker_encoder()
    reader, other = speech("two_cities.flac"), speech("beckett.flac")
    first, second = encoder.embed(part(reader, 0, 6)), encoder.embed(part(reader, 30, 36))
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-3)
    assert likeness_cosine(first, second) > 0.9
    assert likeness_cosine(first, encoder.embed(part(other, 0, 6))) < 0.85


def test_embedding_ignores_level_and_pauses() -> None:
    encoder = load_speaker_encoder()
    excerpt = part(speech("two_cities.flac"), 0, 5)
    pause = np.zeros(excerpt.sample_rate, np.float32)
    padded = Audio(np.concatenate([pause, excerpt.samples * np.float32(0.3), pause]), excerpt.sample_rate)
    assert likeness_cosine(encoder.embed(excerpt), encoder.embed(padded)) > 0.97


def test_silence_has_no_embedding() -> None:
    with pytest.raises(InvalidInput) as caught:
        load_speaker_encoder().embed(Audio(np.zeros(48_000, np.float32), 16_000))
    assert caught.value.code == "speech_too_short"
