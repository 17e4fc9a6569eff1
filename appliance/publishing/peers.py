"""Other boxes of the same kind: pairing by a code that a person carries over, and messages that cannot be forged.

Discovery shows which boxes there are and gives no trust. A person asks one box for a code and types it into the other;
both then prove that they know it (HMAC over both public keys and the authorities of their TLS), and keep each other's.
From then on every message is signed with Ed25519 over method, path, body and a number that only grows: a message that
was heard once is refused the second time, whatever the clocks say. The number grows within a lane: orders to say
something aloud do not wait behind the files of a publication.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.contracts import JsonDict, PeerGrant, PeerLink
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Forbidden, InvalidInput, NotFound, Unavailable
from appliance.events import Event
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.publishing.peer_messages import (
    DIGEST,
    NUMBER,
    PEER,
    QUESTIONS,
    SIGNATURE,
    TIMEOUT_S,
    Address,
    exchange,
    lane_of,
    message_bytes,
)
from appliance.security.audit import append_entry
from appliance.security.signing import DeviceKey, PublicKey
from appliance.voices.records import clean_name

CODE_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # none that look like another
CODE_LENGTH = 10  # 49 bits, for ten minutes and five attempts
CODE_LIFE_S = 600.0
MOST_ATTEMPTS = 5
LOOK_TIMEOUT_S = 5.0
NOTHING = PeerGrant()
MOST_PEM = 10_000  # characters of a certificate
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Peer:
    """A paired box."""

    tenant: str
    uuid: str
    name: str
    url: str
    public_key: str  # hex of the raw Ed25519 key
    authority: str  # PEM that its TLS certificates are signed by; empty where it speaks plainly
    paired_at: str
    grant: PeerGrant = NOTHING  # what it may say aloud here

    @property
    def id(self) -> str:
        return self.uuid

    def as_json(self) -> JsonDict:
        fingerprint = PublicKey(bytes.fromhex(self.public_key)).fingerprint
        told = {"id": self.uuid, "name": self.name, "url": self.url, "paired_at": self.paired_at}
        return {**told, "fingerprint": fingerprint, "announce": self.grant.as_json()}


@dataclass(frozen=True)
class Identity:
    """This box, as it introduces itself."""

    uuid: str
    name: str
    key: DeviceKey
    authority: str = ""  # PEM that this box's TLS certificates are signed by


@dataclass
class _Invitation:
    code: str
    expires_at: float  # monotonic
    grant: PeerGrant = NOTHING
    attempts: int = 0


class PeerStore:
    """The peers of every tenant. Invitations live in memory: a restart ends them."""

    def __init__(self, db: Database, me: Identity) -> None:
        self._db = db
        self._me = me
        self._invitations: dict[str, _Invitation] = {}  # tenant -> the one that is open
        self._turns: dict[tuple[str, str], threading.Lock] = {}  # (uuid, lane): they arrive in order of their numbers
        self._sent: dict[tuple[str, str], int] = {}
        self._moved: dict[str, str] = {}  # uuid -> where it was found; senders that are under way follow
        self.away: set[str] = set()  # those that did not answer the last message
        self.url = ""  # of this box, as peers reach it; known once the doors are open

    # ------------------------------------------------------------ pairing

    def invite(self, tenant: str, grant: PeerGrant = NOTHING) -> JsonDict:
        """A code for the next ten minutes; an earlier one of the tenant ends. Who pairs by it is given `grant`."""
        code = "".join(secrets.choice(CODE_LETTERS) for _ in range(CODE_LENGTH))
        self._invitations[tenant] = _Invitation(code, time.monotonic() + CODE_LIFE_S, grant)
        return {"code": f"{code[:5]}-{code[5:]}", "expires_in_s": int(CODE_LIFE_S), "uuid": self._me.uuid}

    async def answer(self, introduction: JsonDict) -> JsonDict:
        """Another box shows that it knows the code of one of our invitations; prove the same and keep its key.

        Raises Forbidden("pairing_refused"), whatever was wrong with it.
        """
        proof = str(introduction.get("proof", ""))
        theirs = _introduced(introduction)
        for tenant, invitation in list(self._invitations.items()):
            if time.monotonic() > invitation.expires_at or invitation.attempts >= MOST_ATTEMPTS:
                del self._invitations[tenant]
                continue
            if hmac.compare_digest(proof, _proof(invitation.code, "ask", theirs, self._me.key.public.raw.hex())):
                del self._invitations[tenant]
                await self._keep(tenant, theirs, invitation.grant)
                back = self._introduction()
                return {**back, "proof": _proof(invitation.code, "answer", back, theirs["public_key"])}
            invitation.attempts += 1
        raise Forbidden("pairing_refused")

    async def pair(self, tenant: str, url: str, code: str, grant: PeerGrant = NOTHING) -> Peer:
        """Introduce ourselves to the box at `url`, which gave out `code`, and give it `grant` here.

        Raises Forbidden("pairing_refused"), Unavailable("peer_unreachable").
        """
        plain = code.replace("-", "").strip().upper()
        first = await asyncio.to_thread(exchange, Address(url), "GET", "/v1/peer", b"", {})
        theirs_key = str(first.get("public_key", ""))
        mine = self._introduction()
        asked = {**mine, "proof": _proof(plain, "ask", mine, theirs_key)}
        body = json.dumps(asked).encode()
        back = await asyncio.to_thread(exchange, Address(url), "POST", "/v1/peer/pairings", body, {})
        theirs = {**_introduced(back), "url": url}
        expected = _proof(plain, "answer", _introduced(back), mine["public_key"])
        if theirs["public_key"] != theirs_key or not hmac.compare_digest(str(back.get("proof", "")), expected):
            raise Forbidden("pairing_refused")
        return await self._keep(tenant, theirs, grant)

    def introduce(self) -> JsonDict:
        """What anybody may know of this box."""
        return {"uuid": self._me.uuid, "name": self._me.name, "public_key": self._me.key.public.raw.hex()}

    def _introduction(self) -> JsonDict:
        return {**self.introduce(), "url": self.url, "authority": self._me.authority}

    async def _keep(self, tenant: str, theirs: JsonDict, grant: PeerGrant) -> Peer:
        if theirs["uuid"] == self._me.uuid:
            raise Forbidden("pairing_refused")
        row = {"tenant": tenant, **theirs, "paired_at": utc_now(), **_grant_columns(grant)}
        event = Event(tenant, "peer.pair", subject=theirs["uuid"], details={"zones": ", ".join(grant.zones)})

        def write(db: sqlite3.Connection) -> Peer:
            known = "SELECT 1 FROM peers WHERE tenant = ? AND uuid = ? AND public_key = ?"
            key = (tenant, theirs["uuid"])
            if db.execute(known, (*key, theirs["public_key"])).fetchone():
                # what was numbered and signed with this key before the new code must not count again
                changes = ", ".join(f"{name} = :{name}" for name in row)
                db.execute(f"UPDATE peers SET {changes} WHERE tenant = :tenant AND uuid = :uuid", row)  # noqa: S608
            else:
                db.execute("DELETE FROM peers WHERE tenant = ? AND uuid = ?", key)
                insert_row(db, "peers", row)
            append_entry(db, event)
            return _find(db, *key)

        self._moved.pop(theirs["uuid"], None)
        return await self._db.write(write, durable=True)

    # ------------------------------------------------------------ the list

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Peer]:
        """By uuid."""
        listing = Listing("SELECT * FROM peers", "tenant = ?", (tenant,), ("uuid",))
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _peer))

    async def remove(self, tenant: str, uuid: str) -> None:
        """Nothing is taken from that box or sent to it any more. Raises NotFound("peer_not_found")."""

        def erase(db: sqlite3.Connection) -> None:
            _find(db, tenant, uuid)
            db.execute("DELETE FROM peers WHERE tenant = ? AND uuid = ?", (tenant, uuid))

        await self._db.write(erase, durable=True)

    async def allow(self, tenant: str, uuid: str, grant: PeerGrant) -> Peer:
        """What a paired box may say aloud here, instead of what it might before. Raises NotFound("peer_not_found")."""

        def change(db: sqlite3.Connection) -> Peer:
            _find(db, tenant, uuid)
            values = (*_grant_columns(grant).values(), tenant, uuid)
            db.execute("UPDATE peers SET zones = ?, most_priority = ? WHERE tenant = ? AND uuid = ?", values)
            return _find(db, tenant, uuid)

        return await self._db.write(change, durable=True)

    async def follow(self, uuid: str, url: str) -> bool:
        """Somebody says that a paired box is at `url` now. Believed when its own TLS answers there; a box that was
        paired without TLS is not followed, since anybody could answer in its name.
        """
        if not url.startswith("https:"):
            return False
        query = "SELECT * FROM peers WHERE uuid = ? AND authority <> '' AND url <> ?"
        rows = await self._db.read(lambda db: db.execute(query, (uuid, url)).fetchall())
        for peer in map(_peer, rows):
            try:
                there = Address(url, peer.authority, LOOK_TIMEOUT_S)
                found = await asyncio.to_thread(exchange, there, "GET", "/v1/peer", b"", {})
            except (Unavailable, Forbidden, InvalidInput):
                continue
            if found.get("public_key") == peer.public_key:
                await self.relocate(uuid, url)
                return True
        return False

    async def relocate(self, uuid: str, url: str) -> None:
        """Reach a paired box at another address from now on."""
        self._moved[uuid] = url
        await self._db.write(lambda db: db.execute("UPDATE peers SET url = ? WHERE uuid = ?", (url, uuid)) and None)

    # ------------------------------------------------------------ messages

    async def links(self, tenant: str) -> dict[str, PeerLink]:
        """How channels reach the tenant's peers."""
        query = "SELECT * FROM peers WHERE tenant = ?"
        rows = await self._db.read(lambda db: db.execute(query, (tenant,)).fetchall())
        return {peer.uuid: PeerLink(peer.url, self._sender(peer)) for peer in map(_peer, rows)}

    async def link(self, tenant: str, named: str, timeout_s: float) -> PeerLink | None:
        """How the tenant ("": whichever) reaches the peer with that uuid or name; None: it is paired with none."""
        query = (
            "SELECT * FROM peers WHERE ? IN ('', tenant) AND ? IN (uuid, name)"
            " ORDER BY uuid = ? DESC, paired_at DESC LIMIT 1"
        )
        row = await self._db.read(lambda db: db.execute(query, (tenant, named, named)).fetchone())
        if row is None:
            return None
        peer = _peer(row)
        return PeerLink(peer.url, self._sender(peer, timeout_s), peer.uuid, peer.name)

    def _sender(self, peer: Peer, timeout_s: float = TIMEOUT_S) -> Callable[[str, str, bytes], JsonDict]:
        def send(method: str, path: str, body: bytes) -> JsonDict:
            lane = lane_of(path)
            with self._turns.setdefault((peer.uuid, lane), threading.Lock()):
                number = self._next_number(peer.uuid, lane)
                digest = hashlib.sha256(body).hexdigest()
                signature = self._me.key.sign(message_bytes(method, path, number, digest, peer.uuid))
                headers = {PEER: self._me.uuid, NUMBER: str(number), SIGNATURE: signature.hex(), DIGEST: digest}
                there = Address(self._moved.get(peer.uuid, peer.url), peer.authority, timeout_s)
                try:
                    answer = exchange(there, method, path, body, headers)
                except Unavailable as error:
                    if error.code == "peer_unreachable":
                        self.away.add(peer.uuid)
                    raise
                self.away.discard(peer.uuid)
                return answer

        return send

    def _next_number(self, uuid: str, lane: str = "") -> int:
        """Larger than any before: the clock in nanoseconds, or one more where it was turned back. A clock that is
        turned back while the box is off ends the pairing's messages until it has caught up; removing the pairing on
        the other box and pairing again helps too.
        """
        self._sent[uuid, lane] = max(time.time_ns(), self._sent.get((uuid, lane), 0) + 1)
        return self._sent[uuid, lane]

    async def admit(self, method: str, path: str, headers: Mapping[str, str], body_digest: str) -> Peer:
        """Who sent this message. Raises Forbidden("peer_refused") for a stranger, a wrong or a used signature."""
        uuid, text, signature = (headers.get(name, "") for name in (PEER, NUMBER, SIGNATURE))
        if not (text.isdigit() and len(text) <= 20):
            raise Forbidden("peer_refused")
        message, lane = message_bytes(method, path, int(text), body_digest, self._me.uuid), lane_of(path)

        def check(db: sqlite3.Connection) -> Peer:
            for row in db.execute("SELECT * FROM peers WHERE uuid = ?", (clean_name(uuid),)).fetchall():
                peer = _peer(row)
                if not PublicKey(bytes.fromhex(peer.public_key)).verifies(_unhex(signature), message):
                    continue
                if not _count(db, peer, lane, int(text)):
                    break
                return peer
            raise Forbidden("peer_refused")

        return await self._db.write(check, durable=lane != QUESTIONS)


def _count(db: sqlite3.Connection, peer: Peer, lane: str, number: int) -> bool:
    """Note the number of a message; False when it, or a later one, was there before."""
    key = (peer.tenant, peer.uuid)
    if lane == "":
        change = "UPDATE peers SET received = ? WHERE tenant = ? AND uuid = ? AND received < ?"
        return db.execute(change, (number, *key, number)).rowcount == 1
    change = (
        "INSERT INTO peer_lanes (tenant, peer, lane, received) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET received = excluded.received WHERE received < excluded.received"
    )
    return db.execute(change, (*key, lane, number)).rowcount == 1


def _grant_columns(grant: PeerGrant) -> JsonDict:
    return {"zones": json.dumps(grant.zones), "most_priority": grant.priority}


def _proof(code: str, role: str, who: JsonDict, other_key: str) -> str:
    """Shows that `who` knows the code; bound to both keys, so that nobody in between can put in their own."""
    facts = json.dumps([role, who["uuid"], who["public_key"], who["authority"], other_key])
    return hmac.new(f"voiced pairing {code}".encode(), facts.encode(), hashlib.sha256).hexdigest()


def _introduced(document: JsonDict) -> JsonDict:
    theirs = {key: clean_name(str(document.get(key, "")))[:200] for key in ("uuid", "name", "url", "public_key")}
    theirs["authority"] = str(document.get("authority", ""))[:MOST_PEM]
    if len(_unhex(theirs["public_key"])) != 32 or not _UUID.fullmatch(theirs["uuid"]):  # it names a folder here
        raise Forbidden("pairing_refused")
    return theirs


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _find(db: sqlite3.Connection, tenant: str, uuid: str) -> Peer:
    row = db.execute("SELECT * FROM peers WHERE tenant = ? AND uuid = ?", (tenant, clean_name(uuid))).fetchone()
    if row is None:
        raise NotFound("peer_not_found", peer=clean_name(uuid)[:80])
    return _peer(row)


def _peer(row: sqlite3.Row) -> Peer:
    return Peer(
        tenant=row["tenant"],
        uuid=row["uuid"],
        name=row["name"],
        url=row["url"],
        public_key=row["public_key"],
        authority=row["authority"],
        paired_at=row["paired_at"],
        grant=PeerGrant(tuple(json.loads(row["zones"])), row["most_priority"]),
    )
