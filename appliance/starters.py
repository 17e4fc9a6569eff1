"""The voices that engines bring with them, filed for each tenant."""

from __future__ import annotations

import asyncio
import logging

from appliance.errors import VoicedError
from appliance.plugin_manager import Plugins
from appliance.voices.registry import VoiceRegistry

log = logging.getLogger(__name__)


async def seed_starters(registry: VoiceRegistry, plugins: Plugins, tenant: str) -> None:
    """File them for `tenant`; an engine that cannot say is left out, the box starts."""
    for name, factory in plugins.engines.items():
        engine = factory()
        try:
            if (await asyncio.to_thread(engine.probe)).usable:
                starters = await asyncio.to_thread(engine.starter_voices)
                await registry.seed_starters(tenant, name, starters)
        except VoicedError as error:
            log.warning("no starter voices of %s: %s", name, error)
