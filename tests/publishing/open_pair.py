"""Boxes with their doors on real sockets; scripts are published by the real rooms, spoken in tones."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "doors"))

from open_box import OpenBox, open_box


class Caller:
    """One box, asked in JSON."""

    def __init__(self, box: OpenBox) -> None:
        self.box = box
        self.url = box.url
        self.office = box.services.office

    async def __call__(self, method: str, path: str, status: int = 200, **options):
        async with self.box.client.request(method, path, **options) as answer:
            body = await answer.json(content_type=None) if answer.status != 204 else None
            assert answer.status == status, body
            return body

    async def save(self, script: str, lines: dict[str, str], **more):
        given = [{"name": name, "text": text} for name, text in lines.items()]
        order = {"lines": given, "voice": "sine-440", **more}
        return await self("PUT", f"/v1/scripts/{script}", json=order)

    async def publish(self, script: str, **order):
        """Publish and wait for the end."""
        begun = await self("POST", f"/v1/scripts/{script}/publish", 202, json=order)
        return await self.ended(script, begun["number"])

    async def roll_back(self, script: str, **order):
        begun = await self("POST", f"/v1/scripts/{script}/rollback", 202, json=order)
        return await self.ended(script, begun["number"])

    async def ended(self, script: str, number: int):
        row = await self.office.publications.get("main", script, number)
        await self.office.publisher.finished(row)
        return await self("GET", f"/v1/scripts/{script}/publications/{number}")


@asynccontextmanager
async def opened(folder: Path, **settings):
    async with open_box(folder, **settings) as box:
        yield Caller(box)
