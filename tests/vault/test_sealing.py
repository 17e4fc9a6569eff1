"""The encrypted form: opens as it was, and not at all when anything was changed."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path

import pytest

from appliance.vault.sealing import (
    CHUNK_LOG2,
    Damaged,
    DataKey,
    key_id_of,
    make_key,
    open_stream,
    seal,
    seal_stream,
    sealed_size,
    unseal,
)

CHUNK = 1 << CHUNK_LOG2
SIZES = (0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17)


def finder(key: DataKey):
    return {key.id: key}.__getitem__


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens_as_it_was(size: int) -> None:
    key, data = make_key(), random.Random(size).randbytes(size)
    target = io.BytesIO()
    assert seal_stream(io.BytesIO(data), target, key) == hashlib.sha256(data).hexdigest()
    sealed = target.getvalue()
    assert len(sealed) == sealed_size(size) and key_id_of(sealed) == key.id
    assert b"".join(open_stream(io.BytesIO(sealed), finder(key))) == data
    assert size < 32 or data[:32] not in sealed


def test_equal_bytes_never_look_equal() -> None:
    key = make_key()
    sealed = {seal(b"the same" * 100, key) for _ in range(100)}
    assert len({one[42:58] for one in sealed}) == 100


@pytest.mark.parametrize("seed", range(60))
def test_a_changed_file_does_not_open(seed: int) -> None:
    dice, key = random.Random(seed), make_key()
    data = dice.randbytes(dice.choice(SIZES[2:]))
    sealed = bytearray(seal(data, key))
    sealed[dice.randrange(len(sealed))] ^= 1 << dice.randrange(8)
    with pytest.raises((Damaged, KeyError)):  # KeyError: it was the id of the key
        unseal(bytes(sealed), finder(key))


def test_chunks_cannot_be_cut_off_swapped_left_out_or_added() -> None:
    key, data = make_key(), random.Random(5).randbytes(3 * CHUNK)
    sealed = seal(data, key)
    header, step = sealed[:42], CHUNK + 16
    one, two, three = (sealed[42 + at * step : 42 + (at + 1) * step] for at in range(3))
    for chunks in ((one, two), (two, one, three), (one, three), (one, two, three, three), (one, two, three, b"x"), ()):
        with pytest.raises(Damaged):
            unseal(header + b"".join(chunks), finder(key))


def test_another_key_and_another_context_open_nothing() -> None:
    key, other = make_key(), make_key()
    sealed = seal(b"words", key, b"recordings.transcript:rec_1")
    for wrong in (
        lambda: unseal(sealed, lambda _: other, b"recordings.transcript:rec_1"),
        lambda: unseal(sealed, finder(key), b"recordings.transcript:rec_2"),
    ):
        with pytest.raises(Damaged):
            wrong()
    assert unseal(sealed, finder(key), b"recordings.transcript:rec_1") == b"words"


@pytest.mark.parametrize("head", [b"", b"RIFF", b"VOICEDS\x02" + bytes(40), b"VOICEDS\x01" + bytes(10)])
def test_a_plain_file_names_no_key(head: bytes) -> None:
    assert key_id_of(head) is None


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    key = make_key()
    assert key.secret.hex() not in repr(key) and repr(key.secret) not in repr(key)
