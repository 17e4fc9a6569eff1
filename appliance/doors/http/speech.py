"""How every speaking door sends sound: whole or as it is made, encoded off the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter

from aiohttp import web

from appliance.audio.encoding import CONTENT_TYPES, StreamEncoder, wav_header
from appliance.doors.http.services import METRICS, services_of
from appliance.doors.utterances import WRITE_TIMEOUT_S
from appliance.errors import Unavailable, VoicedError
from appliance.synthesis import Speech

log = logging.getLogger("voiced.http")


@dataclass(frozen=True)
class Delivery:
    """How one answer is sent."""

    format: str
    is_streamed: bool
    door: str  # for the figures
    started: float  # perf_counter when the request was read
    is_signed: bool = False  # with provenance (C2PA); whole answers only


async def send_speech(request: web.Request, speech: Speech, delivery: Delivery) -> web.StreamResponse:
    """The sound of `speech` as the answer; leaving early (the client went) closes the synthesis."""
    if delivery.is_streamed:
        return await _send_as_made(request, speech, delivery)
    return await _send_whole(request, speech, delivery)


async def _send_whole(request: web.Request, speech: Speech, delivery: Delivery) -> web.Response:
    is_wav = delivery.format == "wav"  # its header states the length, which is known last
    parts: list[bytes] = []
    async with aclosing(encode(request, speech, delivery, "pcm" if is_wav else delivery.format, True)) as pieces:
        async for piece in pieces:
            parts.append(piece)
    if is_wav:
        parts.insert(0, wav_header(speech.sample_rate, sum(map(len, parts)) // 2, speech.tags))
    body = b"".join(parts)
    if delivery.is_signed:
        body = await services_of(request).marks.sign(body, delivery.format, provenance_facts(speech))
    return web.Response(body=body, headers=speech_headers(speech, delivery.format))


def provenance_facts(speech: Speech) -> dict[str, str]:
    """What the signed manifest of a spoken file says about it."""
    return {"rendition": speech.rendition, "voice": speech.voice.spec, "mark": speech.mark}


async def _send_as_made(request: web.Request, speech: Speech, delivery: Delivery) -> web.StreamResponse:
    async with aclosing(encode(request, speech, delivery, delivery.format, False)) as pieces:
        first = await anext(pieces)  # whatever goes wrong before the first sound still gets its own status
        response = web.StreamResponse(headers=speech_headers(speech, delivery.format))
        response.enable_chunked_encoding()
        async with unfinished_is_broken(request), cut_when_withdrawn(request, speech):
            await response.prepare(request)
            await write_in_time(response, first)
            async for piece in pieces:
                await write_in_time(response, piece)
            await response.write_eof()
    return response


async def encode(
    request: web.Request, speech: Speech, delivery: Delivery, format: str, is_patched: bool
) -> AsyncGenerator[bytes, None]:
    """The encoded pieces of `speech`, none of them empty; the codec works in a thread, the loop only passes bytes on.

    Closing the generator closes the synthesis.
    """
    metrics, is_first = request.app[METRICS], True
    async with aclosing(speech.chunks) as chunks:
        encoder = await asyncio.to_thread(
            StreamEncoder, format, speech.sample_rate, is_patched=is_patched, tags=speech.tags
        )
        async for audio in chunks:
            if is_first:
                metrics.first_sound.observe(perf_counter() - delivery.started, delivery.door)
                is_first = False
            metrics.spoken.add(delivery.door, amount=audio.duration_s)
            piece = await asyncio.to_thread(encoder.encode, audio.samples)
            if piece:
                yield piece
    if is_first:
        raise Unavailable("speech_without_sound")
    piece = await asyncio.to_thread(encoder.finish)
    if piece:
        yield piece


@asynccontextmanager
async def unfinished_is_broken(request: web.Request) -> AsyncIterator[None]:
    """An answer that has begun cannot become an error: cut the line, so that nobody takes a part for the whole."""
    try:
        yield
    except (VoicedError, TimeoutError) as error:
        log.warning("answer cut off: %s", error)
        _abort(request)
    except ConnectionError:
        raise
    except Exception:
        log.exception("answer cut off")
        _abort(request)


@asynccontextmanager
async def cut_when_withdrawn(request: web.Request, speech: Speech) -> AsyncIterator[None]:
    """What a slow reader has not fetched yet is not sent any more once the right to it ended."""

    async def cut() -> None:
        await speech.withdrawn.wait()
        _abort(request)

    cutting = asyncio.create_task(cut())
    try:
        yield
    finally:
        cutting.cancel()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def write_in_time(response: web.StreamResponse, piece: bytes) -> None:
    """Write, but do not wait for ever for a reader that stopped reading."""
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(piece)


def speech_headers(speech: Speech, format: str) -> dict[str, str]:
    """Headers of every spoken answer."""
    return {
        "Content-Type": CONTENT_TYPES[format],
        "X-Voice-Version": speech.voice.spec,
        "X-AI-Generated": "true",
        "X-Rendition": speech.rendition,
        "X-Seed": str(speech.seed),
        "X-Cache": speech.cache,
        "X-Sample-Rate": str(speech.sample_rate),
    }
