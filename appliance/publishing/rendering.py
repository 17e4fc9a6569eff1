"""Lines as files: a sound that was made before is found by its digest and not made again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Protocol

from appliance.audio.encoding import encode_audio
from appliance.contracts import Audio
from appliance.errors import Busy, NotFound, Unavailable
from appliance.synthesis import Identified, Speech, SpeechRequest
from appliance.voices.records import NewRendition, Rendition
from appliance.voices.renditions import RenditionStore

log = logging.getLogger(__name__)

RETRY_S = 2.0
MOST_RETRIES = 900  # half an hour: a box whose worker stays away for longer says so


class SpeechMaker(Protocol):
    """What publishing needs of `Synthesis`."""

    async def identify(self, request: SpeechRequest) -> Identified: ...

    async def render(self, request: SpeechRequest) -> tuple[Speech, Audio]: ...

    async def default_voice(self, tenant: str, purpose: str = ...) -> str: ...


def filing_id(rendition: str, label_s: float) -> str:
    """The id that a sound is filed under. With an audible label it is another file: a site whose profile changes must
    not go on with what was made under the old one.
    """
    if not label_s:
        return rendition
    return hashlib.sha256(f"{rendition} label {label_s:.3f}".encode()).hexdigest()


class LineRenderer:
    """Renditions of requests."""

    def __init__(self, renditions: RenditionStore, synthesis: SpeechMaker) -> None:
        self._renditions = renditions
        self.synthesis = synthesis

    async def find(self, tenant: str, rendition_id: str) -> Rendition | None:
        """The rendition, if it is filed and its sound is on the disk."""
        try:
            return await self._renditions.get_present(tenant, rendition_id)
        except NotFound:
            return None

    async def make(self, request: SpeechRequest) -> Rendition:
        """Render and file it; a busy box is waited for. Raises what `Synthesis.render` raises, and StorageFull."""
        speech, audio = await self._patiently(request)
        content = await asyncio.to_thread(encode_audio, audio.samples, audio.sample_rate, "flac", speech.tags)
        new = NewRendition(
            source=content,
            voice=speech.voice.voice,
            number=speech.voice.number,
            text=request.text,
            language=request.language,
            seed=speech.seed,
            duration_s=audio.duration_s,
            settings={"speed": request.speed},
            marks={"label_s": speech.label_s},
            id=filing_id(speech.rendition, speech.label_s),
            owner=speech.voice.owner,
        )
        return await self._renditions.add(request.tenant, new)

    async def _patiently(self, request: SpeechRequest) -> tuple[Speech, Audio]:
        for _ in range(MOST_RETRIES):
            try:
                return await self.synthesis.render(request)
            except (Busy, Unavailable) as error:
                log.info("a line waits: %s", error.code)
                await asyncio.sleep(RETRY_S)
        return await self.synthesis.render(request)
