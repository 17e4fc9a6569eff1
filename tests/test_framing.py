"""Frames over real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

import numpy as np
import pytest

from appliance import framing
from appliance.framing import FramingError, open_frame_stream, read_frame, write_frame


def test_a_frame_arrives_as_it_was_sent():
    left, right = socket.socketpair()
    sound = np.linspace(-1, 1, 500_000, dtype=np.float32)
    sender = threading.Thread(target=write_frame, args=(left, {"op": "pcm", "text": "你好"}, sound.data))
    sender.start()
    header, payload = read_frame(right)
    sender.join()
    assert header == {"op": "pcm", "text": "你好"}
    assert np.array_equal(np.frombuffer(payload, np.float32), sound)


def test_the_end_between_frames_is_eof_and_inside_a_frame_an_error():
    left, right = socket.socketpair()
    write_frame(left, {"a": 1})
    left.close()
    assert read_frame(right) == ({"a": 1}, b"")
    with pytest.raises(EOFError):
        read_frame(right)
    left, right = socket.socketpair()
    left.sendall(struct.pack(">2sII", b"VF", 10, 0) + b"{")
    left.close()
    with pytest.raises(FramingError):
        read_frame(right)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        struct.pack(">2sII", b"VF", framing.MAX_HEADER_BYTES + 1, 0),
        struct.pack(">2sII", b"VF", 2, 0xFFFFFFFF),
        struct.pack(">2sII", b"VF", 2, 0) + b"[]",
        struct.pack(">2sII", b"VF", 2, 0) + b"\xff\xfe",
    ],
)
async def test_bytes_that_are_no_frame_are_refused_by_both_readers(data):
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    with pytest.raises(FramingError):
        read_frame(right)
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    stream = await open_frame_stream(right)
    with pytest.raises(FramingError):
        await stream.read()
    await stream.close()


async def test_many_tasks_may_write_and_no_frame_is_mixed_with_another():
    left, right = socket.socketpair()
    here, there = await open_frame_stream(left), await open_frame_stream(right)
    payloads = {n: bytes([n]) * (100_000 + n) for n in range(20)}

    async def receive() -> dict[int, bytes]:
        frames = [await there.read() for _ in payloads]
        return {header["n"]: payload for header, payload in frames}

    writing = [here.write({"n": n}, payload) for n, payload in payloads.items()]
    received, *_ = await asyncio.gather(receive(), *writing)
    assert received == payloads
    await here.close()
    with pytest.raises(EOFError):
        await there.read()
    await there.close()


def test_a_header_that_is_too_large_is_refused_before_it_is_sent():
    left, _right = socket.socketpair()
    with pytest.raises(FramingError):
        write_frame(left, {"text": "x" * framing.MAX_HEADER_BYTES})
