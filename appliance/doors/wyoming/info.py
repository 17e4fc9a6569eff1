"""What the box tells assistants about its voices (`describe` → `info`)."""

from __future__ import annotations

from dataclasses import dataclass

from appliance import __version__
from appliance.callers import may_use
from appliance.contracts import JsonDict
from appliance.doors.wyoming.rights import Guest
from appliance.errors import Forbidden, NotFound
from appliance.plugin_manager import Plugins
from appliance.voices.consents import ConsentStore
from appliance.voices.records import Voice
from appliance.voices.registry import VoiceRegistry

OTHER_SERVICES = ("asr", "handle", "intent", "wake", "mic", "snd")


@dataclass(frozen=True)
class InfoRooms:
    registry: VoiceRegistry
    consents: ConsentStore
    plugins: Plugins
    engine: str  # whose starter voices are listed first
    box_name: str


async def describe(rooms: InfoRooms, guest: Guest) -> JsonDict:
    """The data of an `info` event: one service with every voice that `guest` may use.

    One for all engines, because Home Assistant looks at the first only. A voice without consent is listed as not
    installed, which is what keeps assistants from offering it.
    """
    voices = [
        await _voice(rooms, guest.tenant, voice)
        for voice in await rooms.registry.speaking_voices(guest.tenant, rooms.engine)
        if may_use(voice.id)
    ]
    program = {
        "name": "voiced",
        "description": f"voiced on {rooms.box_name}",
        "attribution": _attribution("voiced"),
        "installed": True,
        "version": __version__,
        "voices": voices,
        "supports_synthesize_streaming": True,
    }
    return {"tts": [program], **{service: [] for service in OTHER_SERVICES}}


async def _voice(rooms: InfoRooms, tenant: str, voice: Voice) -> JsonDict:
    version = await rooms.registry.resolve(tenant, voice.id)
    engine = rooms.plugins.engines.get(version.engine)
    return {
        "name": voice.id,
        "description": voice.title or voice.id,
        "attribution": _attribution(str(version.lineage.get("attribution") or rooms.box_name)),
        "installed": engine is not None and await _may_speak(rooms, tenant, voice.id),
        "version": version.spec,
        "languages": list(voice.languages or getattr(engine, "languages", ())),
        "engine": version.engine,
    }


async def _may_speak(rooms: InfoRooms, tenant: str, voice: str) -> bool:
    try:
        await rooms.consents.require(tenant, voice, "speak")
    except (Forbidden, NotFound):
        return False
    return True


def _attribution(name: str) -> JsonDict:
    return {"name": name, "url": ""}
