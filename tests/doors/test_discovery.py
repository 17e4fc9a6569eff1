"""The box on the LAN, seen by another program's multicast DNS browser."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import AsyncExitStack

import pytest
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from appliance.doors.discovery import (
    SERVICE,
    WYOMING,
    announce,
    announce_wyoming,
    browse,
    instance_name,
    reachable_addresses,
)
from appliance.doors.http.services import Box
from appliance.settings import Settings


def box_named(name: str) -> Box:
    return Box(str(uuid.uuid4()), name, "0.1.0", "2026-01-01T00:00:00.000+00:00")


def settings(folder, host: str = "127.0.0.1") -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(state_dir=folder, http={"host": host})


async def said(announcement) -> str:
    async with asyncio.timeout(15):
        await announcement.said.wait()
    return announcement.name


@pytest.mark.parametrize(("host", "scheme"), [("127.0.0.1", "http"), ("0.0.0.0", "https")])
async def test_a_box_is_found_with_its_record_and_withdrawn_when_it_stops(tmp_path, host, scheme):
    box = box_named(f"Till {uuid.uuid4().hex[:6]}")
    async with announce(box, "http://127.0.0.1:8790", settings(tmp_path, host)) as announcement:
        name = await said(announcement)
        found = {one.uuid: one for one in await browse(1.5)}[box.uuid]
        assert (found.name, found.port, found.version) == (name, 8790, "0.1.0")
        assert set(found.addresses) == set(reachable_addresses(host))
        assert found.url in {f"{scheme}://{address}:8790" for address in found.addresses}

        zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)
        info = AsyncServiceInfo(SERVICE, f"{name}.{SERVICE}")
        assert await info.async_request(zeroconf.zeroconf, 3000)
        expected = {"uuid": box.uuid, "version": "0.1.0", "name": box.name, "path": "/", "api": "/v1"}
        assert info.decoded_properties == {**expected, "tls": "1" if scheme == "https" else "0"}
        await zeroconf.async_close()
    assert box.uuid not in {one.uuid for one in await browse(1.0)}


async def test_a_name_that_is_taken_is_changed_and_kept(tmp_path):
    name = f"Counter {uuid.uuid4().hex[:6]}"
    first, second = box_named(name), box_named(name)
    async with announce(first, "http://127.0.0.1:1", settings(tmp_path / "1")) as one:
        assert await said(one) == name
        async with announce(second, "http://127.0.0.1:2", settings(tmp_path / "2")) as two:
            assert await said(two) == f"{name}-2"
    assert json.loads((tmp_path / "2/lan-name.json").read_text()) == {"asked": name, "given": f"{name}-2"}
    async with announce(second, "http://127.0.0.1:2", settings(tmp_path / "2")) as alone:
        assert await said(alone) == f"{name}-2"


async def test_boxes_that_start_together_end_with_different_names(tmp_path):
    """The power came back: all of them ask at once, and all of them hear that the name is free."""
    name = f"Till {uuid.uuid4().hex[:6]}"
    boxes = sorted((box_named(name) for _ in range(3)), key=lambda box: box.uuid)
    async with AsyncExitStack() as stack:
        announced = [
            await stack.enter_async_context(announce(box, f"http://127.0.0.1:{n}", settings(tmp_path / str(n))))
            for n, box in enumerate(boxes, 1)
        ]
        found = list[str]()
        async with asyncio.timeout(50):
            while "" in (said := [one.name for one in announced]) or found != said:
                names = {one.uuid: one.name for one in await browse(1.5)}
                found = [names.get(box.uuid, "") for box in boxes]
        assert len(set(found)) == 3
        assert found[0] == name  # the smallest uuid keeps it


async def test_the_wyoming_door_is_found_by_home_assistants_browser_and_withdrawn(tmp_path):
    box, seen = box_named(f"Till {uuid.uuid4().hex[:6]}"), dict[str, bool]()
    zeroconf = AsyncZeroconf(ip_version=IPVersion.V4Only)

    def notice(zeroconf, service_type, name, state_change):
        seen[name] = state_change is not ServiceStateChange.Removed

    browser = AsyncServiceBrowser(zeroconf.zeroconf, WYOMING, handlers=[notice])
    async with announce_wyoming(box, 10_200, settings(tmp_path)) as announcement:
        name = f"{await said(announcement)}.{WYOMING}"
        async with asyncio.timeout(15):
            while not seen.get(name):
                await asyncio.sleep(0.05)
        info = AsyncServiceInfo(WYOMING, name)
        assert await info.async_request(zeroconf.zeroconf, 3000)
        assert (info.port, info.parsed_addresses()) == (10_200, ["127.0.0.1"])
        assert info.decoded_properties == {"uuid": box.uuid, "version": "0.1.0", "name": box.name}
    async with asyncio.timeout(15):
        while seen[name]:
            await asyncio.sleep(0.05)
    await browser.async_cancel()
    await zeroconf.async_close()


def test_names_become_one_label_that_mdns_can_carry():
    assert instance_name("shop.example.com") == "shop-example-com"
    assert len(instance_name("一号柜台" * 30).encode()) <= 56
    assert instance_name("\x00 . ") == "- -"
    assert instance_name("") == "voiced"
