"""The box on the LAN by multicast DNS: `_voiced._tcp.local.`, so that apps and `voiced find` need no address, and
`_wyoming._tcp.local.`, by which Home Assistant finds the Wyoming door.

What is found this way is a hint, never a credential: anyone on the LAN may announce anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ifaddr
from zeroconf import (
    DNSQuestionType,
    Error,
    InterfaceChoice,
    IPVersion,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from appliance.doors.http.listeners import lan_speaks_tls
from appliance.doors.http.services import Box
from appliance.settings import Settings

log = logging.getLogger("voiced.discovery")

SERVICE = "_voiced._tcp.local."
WYOMING = "_wyoming._tcp.local."
NAME_FILE = "lan-name.json"  # a name that had to change because it was taken is kept over restarts
WYOMING_NAME_FILE = "lan-name-wyoming.json"
NAME_BYTES = 56  # of the 63 a DNS label may have: a conflict appends "-2"
LINK_CHECK_S = 10.0  # how soon a new cable, address or Wi-Fi is noticed
WITHDRAW_TIMEOUT_S = 3.0
RESOLVE_TIMEOUT_MS = 2_000
PROBE_TIMEOUT_MS = 1_500  # an answer given a moment ago is repeated by multicast after a second only
MOST_NAMESAKES = 20
TXT = 16  # the DNS record type that carries properties
MAX_TOLD = 200  # characters of anything a stranger on the LAN says


@dataclass(frozen=True)
class FoundBox:
    """A box that answered. Everything here is what it said about itself."""

    uuid: str
    name: str
    version: str
    url: str
    addresses: tuple[str, ...]
    port: int

    def as_json(self) -> dict[str, Any]:
        """For `voiced find --json`."""
        return {
            "uuid": self.uuid,
            "name": self.name,
            "version": self.version,
            "url": self.url,
            "addresses": list(self.addresses),
            "port": self.port,
        }


@dataclass
class Announcement:
    """What is said on the LAN at this moment; `name` is empty until (and unless) it has been said."""

    name: str = ""
    addresses: tuple[str, ...] = ()
    problem: str = ""
    said: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class _Advert:
    """One service as it is said."""

    service: str
    host: str  # that its door is bound to
    port: int
    name_file: Path
    properties: dict[str, str] = field(default_factory=dict)  # beside those of every service


def announce(box: Box, url: str, settings: Settings) -> AbstractAsyncContextManager[Announcement]:
    """Announce the box until the context ends, then withdraw it.

    Never waits for the network and never fails: without multicast the box is reached by its address.
    """
    properties = {"path": "/", "api": "/v1", "tls": "1" if lan_speaks_tls(settings.http) else "0"}
    port, name_file = urlsplit(url).port or 0, settings.state_dir / NAME_FILE
    return _announced(box, _Advert(SERVICE, settings.http.host, port, name_file, properties))


def announce_wyoming(box: Box, port: int, settings: Settings) -> AbstractAsyncContextManager[Announcement]:
    """The same for the Wyoming door, which has a host of its own."""
    return _announced(box, _Advert(WYOMING, settings.wyoming.host, port, settings.state_dir / WYOMING_NAME_FILE))


@asynccontextmanager
async def _announced(box: Box, advert: _Advert) -> AsyncIterator[Announcement]:
    announcement = Announcement()
    announcer = _Announcer(box, advert, announcement)
    task = asyncio.create_task(announcer.run(), name="discovery")
    try:
        yield announcement
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Announcer:
    def __init__(self, box: Box, advert: _Advert, announcement: Announcement) -> None:
        self._box = box
        self._advert = advert
        self._service = advert.service
        self._host = advert.host
        self._name_file = advert.name_file
        self._announcement = announcement

    async def run(self) -> None:
        """Announce; when the addresses of the machine change or the name turns out to be another's, announce again."""
        while True:
            addresses = await asyncio.to_thread(reachable_addresses, self._host)
            try:
                async with self._registered(addresses) as namesakes:
                    await self._outdated(addresses, namesakes)
                log.info("the network changed, or another box has our name: announcing again")
            except (OSError, Error) as error:
                self._announcement.problem = str(error) or type(error).__name__
                log.warning("not announced on the LAN: %s", self._announcement.problem)
                await asyncio.sleep(LINK_CHECK_S)

    async def _outdated(self, addresses: tuple[str, ...], namesakes: _Namesakes) -> None:
        """Return once this machine is reached under other addresses than these, or its name is an elder's."""
        while await asyncio.to_thread(reachable_addresses, self._host) == addresses:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(namesakes.elder.wait(), LINK_CHECK_S)
                return

    @asynccontextmanager
    async def _registered(self, addresses: tuple[str, ...]) -> AsyncIterator[_Namesakes]:
        interfaces, ip_version = _spoken_on(addresses)
        zeroconf = AsyncZeroconf(interfaces=interfaces, ip_version=ip_version)
        try:
            wanted = await asyncio.to_thread(self._read_name)
            info = self._info(addresses, await self._free_name(zeroconf, wanted))
            namesakes = _Namesakes(zeroconf, info, self._box.uuid)
            await (await zeroconf.async_register_service(info, cooperating_responders=True))
            name = info.name.removesuffix(f".{self._service}")
            if name != wanted:
                log.warning("the name %s is taken on the LAN: this box is %s now", wanted, name)
                await asyncio.to_thread(self._keep_name, name)
            announcement = self._announcement
            announcement.name, announcement.addresses, announcement.problem = name, addresses, ""
            announcement.said.set()
            log.info("announced as %s on %s", info.name, ", ".join(addresses))
            yield namesakes
            if namesakes.elder.is_set():  # without a goodbye: it would make the LAN forget the elder too
                zeroconf.zeroconf.registry.async_remove(info)
        finally:
            self._announcement.name = ""
            await _close(zeroconf)

    async def _free_name(self, zeroconf: AsyncZeroconf, wanted: str) -> str:
        """`wanted`, or the box's name with the first number under which no other box answers.

        The library's own probing asks for answers by unicast, which reach one program per machine only, listens for
        half a second, which a busy neighbour misses, and takes the probe of a box that asks at the same time for an
        answer: two such boxes renamed themselves a hundred times a second, for ever. So it is switched off.
        """
        base = instance_name(self._box.name)
        for name in (wanted, *(f"{base}-{number}" for number in range(2, MOST_NAMESAKES))):
            other = AsyncServiceInfo(self._service, f"{name}.{self._service}")
            is_taken = await other.async_request(zeroconf.zeroconf, PROBE_TIMEOUT_MS, DNSQuestionType.QM)
            if not is_taken or other.decoded_properties.get("uuid") == self._box.uuid:
                return name
        return f"{wanted}-{self._box.uuid[:4]}"

    def _info(self, addresses: tuple[str, ...], name: str) -> AsyncServiceInfo:
        box = self._box
        properties = {"uuid": box.uuid, "version": box.version, "name": box.name[:60], **self._advert.properties}
        return AsyncServiceInfo(
            self._service,
            f"{name}.{self._service}",
            port=self._advert.port,
            properties=properties,
            server=f"voiced-{box.uuid[:8]}.local.",
            parsed_addresses=list(addresses),
        )

    def _read_name(self) -> str:
        """The name to ask for: the one this box had to take last time, unless it has been renamed since."""
        wanted = instance_name(self._box.name)
        try:
            kept = json.loads(self._name_file.read_text(encoding="utf-8"))
            if kept["asked"] == wanted:
                return instance_name(str(kept["given"]))
        except FileNotFoundError:
            return wanted
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not readable (%s): using the configured name", self._name_file, error)
        return wanted

    def _keep_name(self, given: str) -> None:
        document = {"asked": instance_name(self._box.name), "given": given}
        try:
            _write_whole(self._name_file, json.dumps(document, ensure_ascii=False))
        except OSError as error:
            log.warning("the name given on the LAN cannot be kept: %s", error)


class _Namesakes(RecordUpdateListener):
    """Hears boxes that announce themselves under our name after it was found free.

    Boxes that start together (the power came back) all find the name free, and so do boxes whose networks are joined.
    The one with the smallest uuid keeps it and says so again; the others see `elder` set and take another.
    """

    def __init__(self, zeroconf: AsyncZeroconf, info: AsyncServiceInfo, uuid: str) -> None:
        self.elder = asyncio.Event()
        self._zeroconf = zeroconf
        self._info = info
        self._uuid = uuid
        self._insisting: asyncio.Task[Any] | None = None
        zeroconf.zeroconf.async_add_listener(self, None)

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        for record in (update.new for update in records):
            if record.type == TXT and record.key == self._info.key and not record.is_expired(now):
                told = getattr(record, "text", b"")
                self._hear(AsyncServiceInfo(self._info.type, self._info.name, properties=told))

    def _hear(self, other: AsyncServiceInfo) -> None:
        uuid = other.decoded_properties.get("uuid") or ""
        if uuid and uuid < self._uuid:
            self.elder.set()
        elif uuid > self._uuid and self._is_idle():
            self._insisting = asyncio.ensure_future(self._insist())

    def _is_idle(self) -> bool:
        return self._insisting is None or self._insisting.done()

    async def _insist(self) -> None:
        """Say again who we are, which replaces what caches on the LAN have heard under our name."""
        with contextlib.suppress(OSError, Error, KeyError):
            await (await self._zeroconf.async_update_service(self._info))


def _write_whole(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)


async def _close(zeroconf: AsyncZeroconf) -> None:
    """Say goodbye, so that lists on the LAN forget us at once, then close; a dead network must not hold the stop up."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(WITHDRAW_TIMEOUT_S):
            await zeroconf.async_unregister_all_services()
    await zeroconf.async_close()


def instance_name(name: str) -> str:
    """A name as one DNS label: no dot, at most NAME_BYTES of UTF-8."""
    label = "".join("-" if character == "." or not character.isprintable() else character for character in name).strip()
    return label.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore") or "voiced"


def reachable_addresses(host: str) -> tuple[str, ...]:
    """The addresses under which a server bound to `host` is reached: one, or all of this machine for a wildcard."""
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - read, not bound
        families = {4} if host == "0.0.0.0" else {4, 6}  # noqa: S104
        return tuple(sorted(_lan_addresses(families))) or ("127.0.0.1",)
    try:
        rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return ("127.0.0.1",)
    return tuple(sorted({str(row[4][0]) for row in rows}))


def _lan_addresses(families: set[int]) -> set[str]:
    """This machine's addresses on every interface but the loopback, of the given IP versions.

    Link-local IPv6 is left out: without the name of the listener's own interface nobody can connect to it.
    """
    texts = (ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips)
    known = (ip_address(text) for text in texts)
    return {
        str(address)
        for address in known
        if address.version in families
        and not address.is_loopback
        and not (address.version == 6 and address.is_link_local)
    }


def _spoken_on(addresses: tuple[str, ...]) -> tuple[list[str], IPVersion]:
    """Where multicast is sent: the IPv4 interfaces, which every client hears; IPv6 ones on a network without IPv4."""
    old = [address for address in addresses if ip_address(address).version == 4]
    return (old, IPVersion.V4Only) if old else (list(addresses), IPVersion.V6Only)


async def browse(seconds: float) -> list[FoundBox]:
    """The boxes that answer within `seconds`, on every interface including the loopback, by name."""
    found: dict[str, FoundBox] = {}
    pending: set[asyncio.Task[None]] = set()
    zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.All, ip_version=IPVersion.V4Only)

    def notice(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            found.pop(name, None)
            return
        task = asyncio.ensure_future(_resolve(zeroconf, name, found))
        pending.add(task)
        task.add_done_callback(pending.discard)

    browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[notice])
    try:
        await asyncio.sleep(seconds)
        if pending:
            await asyncio.wait(pending, timeout=RESOLVE_TIMEOUT_MS / 1_000)
    finally:
        await browser.async_cancel()
        for task in pending:
            task.cancel()
        await zeroconf.async_close()
    return sorted(found.values(), key=lambda box: (box.name, box.uuid))


async def _resolve(zeroconf: Zeroconf, name: str, found: dict[str, FoundBox]) -> None:
    info = AsyncServiceInfo(SERVICE, name)
    if not await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS) or not info.port:
        return
    addresses = tuple(info.parsed_scoped_addresses(IPVersion.All))[:16]
    if addresses:
        found[name] = _found_box(name, info, addresses)


def _found_box(name: str, info: AsyncServiceInfo, addresses: tuple[str, ...]) -> FoundBox:
    properties = {key: _told(value) for key, value in info.decoded_properties.items()}
    first = next((address for address in addresses if ":" not in address), addresses[0])
    shown = f"[{first}]" if ":" in first else first
    scheme = "https" if properties.get("tls") == "1" else "http"
    return FoundBox(
        uuid=properties.get("uuid", ""),
        name=_told(name.removesuffix(f".{SERVICE}")),
        version=properties.get("version", ""),
        url=f"{scheme}://{shown}:{info.port}",
        addresses=addresses,
        port=int(info.port or 0),
    )


def _told(value: str | None) -> str:
    """What a stranger said, safe to print in a terminal."""
    return "".join(character for character in value or "" if character.isprintable())[:MAX_TOLD]
