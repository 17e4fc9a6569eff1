"""The receiving side of the channel `peer`: what a paired box brings is filed here and heard from here.

An offer lies in a folder until it is committed; files arrive in pieces, continue where they broke off, and count only
once their digest is right. Committing files the renditions, the script's next revision and a publication, which goes
on to the channels of this box (never to its peers: nothing travels in circles).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from appliance.contracts import JsonDict
from appliance.errors import Conflict, InvalidInput, NotFound, StorageFull, TooLarge
from appliance.publishing.lines import MOST_SPOKEN
from appliance.publishing.peers import Peer
from appliance.publishing.publications import NewPublication
from appliance.publishing.publisher import Publisher
from appliance.publishing.records import PUBLISH, PUBLISHED, Line, NewRevision, PublishedLine
from appliance.publishing.scripts import ScriptStore
from appliance.voices.blobs import BlobStore
from appliance.voices.records import NewRendition, to_json
from appliance.voices.renditions import RenditionStore

MOST_BYTES = 1 << 30  # of one file
ARRIVALS_KEPT_S = 7 * 86_400.0  # so long after it was sent, an offer may name a file, and be taken back itself
_DIGEST = re.compile(r"[0-9a-f]{64}")


class OfferedLine(BaseModel):
    """One line of an offer."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,199}$")
    line: str = Field(max_length=200)
    text: str = Field(max_length=100_000)
    language: str = Field(max_length=20)
    voice_version: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}@[0-9]{1,9}$")
    rendition: str = Field(pattern=r"^[0-9a-f]{64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    duration_s: float = Field(ge=0, le=3600)
    values: dict[str, str] = Field({}, max_length=100)


class Offer(BaseModel):
    """A publication of a peer."""

    model_config = ConfigDict(extra="forbid")
    script: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    title: str = Field(max_length=200)
    publication: int = Field(ge=1)
    revision: int = Field(ge=1)
    lines: list[OfferedLine] = Field(max_length=MOST_SPOKEN)


class OfferDesk:
    """Offers of peers. Everything is scoped by the tenant that paired with the peer."""

    def __init__(
        self, folder: Path, blobs: BlobStore, scripts: ScriptStore, renditions: RenditionStore, publisher: Publisher
    ) -> None:
        self._folder = folder
        self._blobs = blobs
        self._scripts = scripts
        self._renditions = renditions
        self._publisher = publisher

    async def take(self, peer: Peer, document: Any) -> JsonDict:
        """Note an offer; says which files are missing and what is here of each. Raises InvalidInput, StorageFull."""
        try:
            offer = Offer.model_validate(document)
        except ValidationError as error:
            raise InvalidInput("offer_invalid", problem=str(error.errors(include_input=False)[0]["msg"])) from error
        offer_id = hashlib.sha256(to_json([peer.uuid, offer.model_dump()]).encode()).hexdigest()[:32]
        ours = await self._renditions.held(peer.tenant, [line.sha256 for line in offer.lines])
        return await asyncio.to_thread(self._take, peer, offer, offer_id, ours)

    async def put(self, peer: Peer, digest: str, size: int, offset: int, part: bytes) -> JsonDict:
        """Add a piece of a file. Raises InvalidInput("offer_invalid"), TooLarge, StorageFull, NotFound."""
        if not _DIGEST.fullmatch(digest):
            raise NotFound("blob_not_found", digest=digest[:80])
        if size > MOST_BYTES or offset + len(part) > size:
            raise TooLarge("body_too_large", limit_bytes=min(size, MOST_BYTES), received_bytes=offset + len(part))
        ours = await self._renditions.held(peer.tenant, [digest])
        if await asyncio.to_thread(self._is_here, self._place(peer), digest, ours):
            return {"have": size, "is_complete": True}
        return await asyncio.to_thread(self._put, self._place(peer), digest, (size, offset), part)

    async def arrived(self, peer: Peer, digest: str) -> int | None:
        """How many bytes of a file are here from this peer; None: it has sent all of it, or its tenant has it."""
        if not _DIGEST.fullmatch(digest):
            return 0
        place, ours = self._place(peer), await self._renditions.held(peer.tenant, [digest])
        if await asyncio.to_thread(self._is_here, place, digest, ours):
            return None
        return await asyncio.to_thread(_size, place / f"{digest}.part")

    async def commit(self, peer: Peer, offer_id: str) -> JsonDict:
        """Let this box carry it. Doing it again is doing it once. Raises NotFound, Conflict, Unavailable."""
        offer, noted = await asyncio.to_thread(self._read, peer, offer_id)
        if noted is None:
            noted = await self._publish(peer, offer)
            await asyncio.to_thread(self._note, peer, offer_id, noted)
        return {"offer": offer_id, "publication": noted}

    async def revert(self, peer: Peer, offer_id: str) -> JsonDict:
        """Let this box carry what it carried before. Raises NotFound, Conflict."""
        offer, noted = await asyncio.to_thread(self._read, peer, offer_id)
        if noted is not None:
            script = await self._scripts.get(peer.tenant, offer.script)
            if script.published == noted:
                ended = await self._publisher.finished(
                    await self._publisher.rollback(peer.tenant, offer.script, author=f"peer {peer.name}")
                )
                noted = ended.number
        await asyncio.to_thread(shutil.rmtree, self._place(peer) / offer_id, ignore_errors=True)
        return {"offer": offer_id, "publication": noted}

    # ------------------------------------------------------------ files

    def _place(self, peer: Peer) -> Path:
        return self._folder / peer.tenant / peer.uuid

    def _is_here(self, place: Path, digest: str, ours: frozenset[str]) -> bool:
        """Whether a file need not be sent. Another tenant may have the same one: that is told to nobody."""
        return self._blobs.is_plain(digest) and (digest in ours or _arrival(place, digest).is_file())

    def _take(self, peer: Peer, offer: Offer, offer_id: str, ours: frozenset[str]) -> JsonDict:
        place = self._place(peer)
        _tidy(place)
        missing = [
            {"sha256": digest, "have": _size(place / f"{digest}.part")}
            for digest in dict.fromkeys(line.sha256 for line in offer.lines)
            if not self._is_here(place, digest, ours)
        ]
        try:
            (place / offer_id).mkdir(parents=True, exist_ok=True)
            _write(place / offer_id / "offer.json", offer.model_dump_json())
        except OSError as error:
            raise StorageFull("storage_full", path=str(place), free_mb=0) from error
        return {"offer": offer_id, "missing": missing}

    def _put(self, place: Path, digest: str, where: tuple[int, int], part: bytes) -> JsonDict:
        size, offset = where
        path = place / f"{digest}.part"
        have = _size(path)
        if have > size:  # nobody has sent that: from the beginning
            path.unlink(missing_ok=True)
            have = 0
        if offset != have:  # a piece that came twice, or one whose forerunner was lost
            return {"have": have, "is_complete": False}
        try:
            place.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(part)
        except OSError as error:
            raise StorageFull("storage_full", path=str(place), free_mb=0) from error
        if offset + len(part) < size:
            return {"have": offset + len(part), "is_complete": False}
        return self._keep(path, digest, size)

    def _keep(self, path: Path, digest: str, size: int) -> JsonDict:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            if found != digest:
                raise InvalidInput("offer_invalid", problem=f"the file {digest[:12]} arrived as {found[:12]}")
            self._blobs.put_file(path)
            _arrival(path.parent, digest).touch()
        finally:
            path.unlink(missing_ok=True)
        return {"have": size, "is_complete": True}

    def _read(self, peer: Peer, offer_id: str) -> tuple[Offer, int | None]:
        folder = self._place(peer) / offer_id
        if not re.fullmatch(r"[0-9a-f]{32}", offer_id) or not (folder / "offer.json").is_file():
            raise NotFound("offer_not_found", offer=offer_id[:40])
        offer = Offer.model_validate_json((folder / "offer.json").read_bytes())
        noted = folder / "publication"
        return offer, int(noted.read_text(encoding="ascii")) if noted.is_file() else None

    def _note(self, peer: Peer, offer_id: str, number: int) -> None:
        _write(self._place(peer) / offer_id / "publication", str(number))

    # ------------------------------------------------------------ what it becomes

    async def _publish(self, peer: Peer, offer: Offer) -> int:
        for line in offer.lines:
            await self._file(peer, line)
        lines = tuple(Line(row.name, row.text, row.voice_version, row.language) for row in offer.lines)
        new = NewRevision(lines, comment=f"{peer.name} {offer.publication}", author=f"peer {peer.name}")
        revision = await self._scripts.save(peer.tenant, offer.script, new, offer.title)
        published = tuple(
            PublishedLine(
                name=row.name,
                line=row.line,
                text=row.text,
                language=row.language,
                speed=1.0,
                voice_version=row.voice_version,
                rendition=row.rendition,
                values=row.values,
            )
            for row in offer.lines
        )
        author = f"peer {peer.name} {offer.publication}"  # by which a commit that comes twice knows its publication
        adopted = NewPublication(offer.script, PUBLISH, revision.number, published, 0, (), author)
        ended = await self._publisher.finished(await self._publisher.adopt(peer.tenant, adopted))
        if ended.state != PUBLISHED:
            raise Conflict("offer_not_published", script=offer.script, reason=str((ended.error or {}).get("code")))
        return ended.number

    async def _file(self, peer: Peer, line: OfferedLine) -> None:
        place, ours = self._place(peer), await self._renditions.held(peer.tenant, [line.sha256])
        if not await asyncio.to_thread(self._is_here, place, line.sha256, ours):
            raise NotFound("blob_not_found", digest=line.sha256)
        path = await asyncio.to_thread(self._blobs.path, line.sha256)
        voice, _, number = line.voice_version.rpartition("@")
        new = NewRendition(
            source=path,
            voice=voice,
            number=int(number),
            text=line.text,
            language=line.language,
            seed=0,
            duration_s=line.duration_s,
            settings={"peer": peer.uuid},
            id=line.rendition,
        )
        await self._renditions.add(peer.tenant, new)
        await asyncio.to_thread(_arrival(place, line.sha256).unlink, missing_ok=True)


def _tidy(place: Path) -> None:
    """What is old goes: offers that were carried or given up, parts of files, sounds that were played."""
    for path in place.iterdir() if place.is_dir() else ():
        if time.time() - path.stat().st_mtime <= ARRIVALS_KEPT_S:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _arrival(place: Path, digest: str) -> Path:
    """Its presence says that this peer has sent the whole file."""
    return place / f"{digest}.here"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _write(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
