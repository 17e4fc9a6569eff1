"""A process that announces, for tests that kill it: `box_process.py STATE_DIR MESSAGE…`; says "ready", then "over"."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stage import PATIENCE, RATE, LevelSpeech

from appliance.announcer.announcer import Announcer, Surroundings
from appliance.announcer.records import NewAnnouncement
from appliance.database import open_database
from appliance.settings import LoudspeakerSettings
from appliance.voices.blobs import BlobStore


async def announce(state_dir: Path, texts: list[str]) -> None:
    settings = LoudspeakerSettings(device="voiced_test", volume=1.0, chime=False, sample_rate=RATE, target_lufs=None)
    async with open_database(state_dir / "voiced.db") as db:
        announcer = Announcer(LevelSpeech(RATE), db, BlobStore(state_dir / "blobs"), settings, Surroundings(PATIENCE))
        if not (await announcer.page("main")).items:
            for text in texts:
                await announcer.submit("main", NewAnnouncement(text=text, voice="anna"))
        async with announcer:
            print("ready", flush=True)
            while not all(row.is_over for row in (await announcer.page("main")).items):
                await asyncio.sleep(0.02)
        print("over", flush=True)


asyncio.run(announce(Path(sys.argv[1]), sys.argv[2:]))
