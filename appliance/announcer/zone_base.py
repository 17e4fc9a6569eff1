"""What every zone has, wherever its loudspeaker stands: a name, an output, and settings that follow the time of day."""

from __future__ import annotations

import asyncio
from datetime import datetime

from appliance.announcer.hours import lies_in, value_at
from appliance.announcer.loudspeaker import Outlet
from appliance.announcer.records import PRIORITIES
from appliance.settings import ZoneSettings

EMERGENCY = PRIORITIES.index("emergency")


class ZoneBase:
    """A named output of the announcer."""

    def __init__(self, name: str, settings: ZoneSettings, outlet: Outlet) -> None:
        self.name = name
        self.waiting = 0
        self._settings = settings
        self._sink = outlet
        self._volume = settings.own_volume
        self._turning: asyncio.Task[None] | None = None  # held, or it may vanish before it has run

    def observe(self, local: datetime) -> None:
        """Follow the time of day."""
        volume = value_at(local.time(), self._settings.volume_by_time, self._volume)
        if volume != self._sink.state.volume:
            self._turning = asyncio.create_task(self._sink.set_volume(volume), name=f"volume {self.name}")

    def is_quiet(self, local: datetime) -> bool:
        """Whether only emergencies may be heard. The box of a zone elsewhere has quiet hours of its own, too."""
        return lies_in(local.time(), self._settings.quiet_hours)

    def least_rank(self, local: datetime) -> int:
        """What a message has to be to be heard now."""
        return EMERGENCY if self.is_quiet(local) else 0

    async def set_volume(self, volume: float) -> None:
        """Until the next start; a volume for the time of day goes before it. Elsewhere: of messages to come."""
        self._volume = volume
        await self._sink.set_volume(volume)
