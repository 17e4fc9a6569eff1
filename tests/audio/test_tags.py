"""Metadata fields reach every format, whole or as a stream, and the sound stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.detection import detect_file
from appliance.audio.encoding import StreamEncoder, encode_audio
from appliance.audio.files import read_audio
from appliance.audio.tags import NO_TAGS, read_tags

TAGS = {"AIGC": '{"Label":"1","ContentProducer":"某公司","ProduceID":"0123456789"}'}
TONE = (0.1 * np.sin(np.arange(24_000) / 10)).astype(np.float32)


def streamed(format: str, tags) -> bytes:
    encoder = StreamEncoder(format, 24_000, tags=tags)
    pieces = [encoder.header(), *(encoder.encode(TONE[at : at + 1000]) for at in range(0, len(TONE), 1000))]
    return b"".join([*pieces, encoder.finish()])


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus"])
@pytest.mark.parametrize("make", [streamed, lambda format, tags: encode_audio(TONE, 24_000, format, tags)])
def test_fields_come_back_from(format, make):
    data, plain = make(format, TAGS), make(format, NO_TAGS)
    assert read_tags(data) == {**read_tags(plain), **TAGS}
    np.testing.assert_array_equal(read_audio(data).samples, read_audio(plain).samples)


ODD_CODING = b"ID3\x04\0\0\0\0\0\x14TXXX\0\0\0\x04\0\0\x09ab\0"
MANY_HEADS = b"ID3\x04\0\0\0\0\0\0" * 3_000


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"RIFF", b"ID3\x04", b"fLaC\x84", b"OggS" + bytes(30), b"RIFF" + b"\xff" * 60),
        *(ODD_CODING, MANY_HEADS),
    ],
)
def test_what_is_no_metadata_counts_as_none(data):
    assert read_tags(data) == {}


@pytest.mark.parametrize("label", ["[" * 4_000, '{"AIGC":' * 500, "1", '{"AIGC": 3}', "no json"])
def test_a_label_that_is_none_counts_as_none(tmp_path, label):
    path = tmp_path / "labelled.wav"
    path.write_bytes(encode_audio(TONE, 24_000, "wav", {"AIGC": label}))
    assert detect_file(path, bytes(32), "")["aigc"] is None
