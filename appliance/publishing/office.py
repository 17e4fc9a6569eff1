"""The publishing room as a whole: what the daemon starts and the doors are given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts import Channel, ChannelHost
from appliance.database import Database
from appliance.publishing.channels import ChannelStore
from appliance.publishing.dubbing import Dubber
from appliance.publishing.offers import OfferDesk
from appliance.publishing.peers import Identity, PeerStore
from appliance.publishing.provenance import Sign
from appliance.publishing.publications import PublicationStore
from appliance.publishing.publisher import Publisher, PublishRooms
from appliance.publishing.rendering import LineRenderer, SpeechMaker
from appliance.publishing.scripts import ScriptStore
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.renditions import RenditionStore


@dataclass(frozen=True)
class OfficeRooms:
    """What publishing is built on."""

    db: Database
    blobs: BlobStore
    renditions: RenditionStore
    consents: ConsentStore
    synthesis: SpeechMaker
    channel_kinds: Mapping[str, Callable[[], Channel]]
    me: Identity
    sign: Sign | None = None  # provenance into files
    signs_all: bool = False  # also where a channel does not ask for it


@dataclass(frozen=True)
class Office:
    """Scripts, publications, channels, peers and narrations."""

    scripts: ScriptStore
    publications: PublicationStore
    publisher: Publisher
    channels: ChannelStore
    peers: PeerStore
    offers: OfferDesk
    dubber: Dubber


@asynccontextmanager
async def open_office(rooms: OfficeRooms, state_dir: Path, folders: tuple[Path, ...]) -> AsyncIterator[Office]:
    """Build the room and take up what was left; closing puts it down. `folders` are those that channels may use."""
    scripts, publications = ScriptStore(rooms.db), PublicationStore(rooms.db)
    peers = PeerStore(rooms.db, rooms.me)

    async def host_of(tenant: str) -> ChannelHost:
        links, place = await peers.links(tenant), state_dir / "exports" / tenant
        return ChannelHost(place, folders, links, peers.url, rooms.sign, rooms.signs_all)

    channels = ChannelStore(rooms.db, rooms.channel_kinds, host_of)
    renderer = LineRenderer(rooms.renditions, rooms.synthesis)
    publisher = Publisher(PublishRooms(scripts, publications, rooms.renditions, channels, rooms.consents, renderer))
    dubber = Dubber(rooms.db, rooms.blobs, renderer)
    offers = OfferDesk(state_dir / "offers", rooms.blobs, scripts, rooms.renditions, publisher)
    await publisher.start()
    await dubber.start()
    try:
        yield Office(scripts, publications, publisher, channels, peers, offers, dubber)
    finally:
        await dubber.stop()
        await publisher.stop()
