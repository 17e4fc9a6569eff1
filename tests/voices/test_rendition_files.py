"""Renditions on disk."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from appliance.contracts import Audio
from appliance.voices.rendition_files import RenditionFiles, RenditionKey

KEY = RenditionKey("main", "anna", "a" * 64)


def chunks_of(seed: int, count: int = 3) -> tuple[Audio, ...]:
    noise = np.random.default_rng(seed)
    return tuple(Audio(noise.standard_normal(1_000 + part, dtype=np.float32), 24_000) for part in range(count))


def files_in(folder: Path, limit_bytes: int = 1_000_000, recipe: str = "this release") -> RenditionFiles:
    return RenditionFiles(folder / "renditions", limit_bytes, recipe)


def put(files: RenditionFiles, key: RenditionKey, chunks: tuple[Audio, ...]) -> None:
    files.put(key, chunks, files.generation)


def written(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_rendition_comes_back_bit_by_bit_in_its_chunks_and_after_a_restart(tmp_path):
    chunks = chunks_of(1)
    put(files_in(tmp_path), KEY, chunks)
    files = files_in(tmp_path)
    assert (len(files), files.bytes) == (1, written(tmp_path)[0].stat().st_size)
    for chunk, expected in zip(files.get(KEY), chunks, strict=True):
        assert chunk.sample_rate == 24_000
        np.testing.assert_array_equal(chunk.samples, expected.samples)


@pytest.mark.parametrize("other", [KEY._replace(tenant="x"), KEY._replace(voice="x"), KEY._replace(rendition="b" * 64)])
def test_nobody_gets_what_belongs_to_another_key(tmp_path, other):
    files = files_in(tmp_path)
    put(files, KEY, chunks_of(1))
    assert files.get(other) is None


@pytest.mark.parametrize("place", [0, 40, 200, -1])
def test_a_flipped_bit_is_noticed_and_the_file_removed(tmp_path, place):
    files = files_in(tmp_path)
    put(files, KEY, chunks_of(1))
    (path,) = written(tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    assert files.get(KEY) is None
    assert (written(tmp_path), files.bytes, files.corrupt) == ([], 0, 1)


@pytest.mark.parametrize("size", [0, 20, 33, 2_000])
def test_a_torn_file_is_noticed(tmp_path, size):
    files = files_in(tmp_path)
    put(files, KEY, chunks_of(1))
    os.truncate(written(tmp_path)[0], size)
    assert files.get(KEY) is None


def test_a_file_under_the_name_of_another_rendition_is_not_served(tmp_path):
    files, other = files_in(tmp_path), KEY._replace(rendition="b" * 64)
    put(files, KEY, chunks_of(1))
    (first,) = written(tmp_path)
    put(files, other, chunks_of(2))
    second = next(path for path in written(tmp_path) if path != first)
    second.write_bytes(first.read_bytes())
    assert files.get(other) is None
    assert files.get(KEY) is not None


def test_the_least_used_goes_first_when_the_folder_is_full_and_after_a_restart(tmp_path):
    keys = [KEY._replace(rendition=letter * 64) for letter in "abcd"]
    files = files_in(tmp_path, limit_bytes=40_000)  # three of about 12 kB
    for seed, key in enumerate(keys[:3]):
        put(files, key, chunks_of(seed))
    assert files.get(keys[0]) is not None
    put(files, keys[3], chunks_of(3))
    assert [files.get(key) is not None for key in keys] == [True, False, True, True]
    for age, key in enumerate((keys[3], keys[2], keys[0])):
        os.utime(files._place(key), (1_000 - age, 1_000 - age))
    smaller = files_in(tmp_path, limit_bytes=15_000)
    assert [smaller.get(key) is not None for key in keys] == [False, False, False, True]
    assert smaller.bytes <= 15_000


def test_what_is_larger_than_the_folder_may_be_is_not_kept(tmp_path):
    files = files_in(tmp_path, limit_bytes=1_000)
    put(files, KEY, chunks_of(1))
    assert (len(files), written(tmp_path)) == (0, [])


def test_forgetting_a_voice_or_a_tenant_leaves_nothing_and_stops_what_is_being_written(tmp_path):
    files = files_in(tmp_path)
    other, foreign = KEY._replace(voice="ben"), KEY._replace(tenant="other")
    before = files.generation
    for key in (KEY, other, foreign):
        put(files, key, chunks_of(1))
    assert files.forget("main", "anna") == 1
    assert [files.get(key) is not None for key in (KEY, other, foreign)] == [False, True, True]
    files.put(KEY, chunks_of(1), before)  # begun before the voice was forgotten
    assert files.get(KEY) is None
    assert files.forget("main") == 1
    assert (len(files), len(written(tmp_path))) == (1, 1)


def test_another_release_starts_with_an_empty_folder(tmp_path):
    put(files_in(tmp_path), KEY, chunks_of(1))
    assert len(files_in(tmp_path, recipe="next release")) == 0
    assert written(tmp_path) == []
