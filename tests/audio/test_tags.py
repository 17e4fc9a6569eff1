"""Metadata fields reach every format, whole or as a stream, and the sound stays what it was."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize("data", [b"", b"RIFF", b"ID3\x04", b"fLaC\x84", b"OggS" + bytes(30), b"RIFF" + b"\xff" * 60])
def test_what_is_no_metadata_counts_as_none(data):
    assert read_tags(data) == {}
