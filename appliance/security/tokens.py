"""Tokens of programs and devices: `public-id.secret`, shown once.

The secret has 256 random bits, so a bare SHA-256 is enough to keep: there is nothing to guess that a slow hash would
protect, and each request pays a microsecond instead of a tenth of a second.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now
from appliance.errors import NotAuthenticated, NotFound
from appliance.events import Event
from appliance.security.audit import append_entry

LAST_USE_S = 60  # how exact `last_used_at` is on disk


@dataclass(frozen=True)
class NewToken:
    """A token to be issued."""

    title: str
    role: str
    voices: tuple[str, ...] = ()  # ids; empty: every voice of the tenant
    doors: tuple[str, ...] = ()  # of `permissions.DOORS` and "api"; empty: every door
    expires_at: str | None = None  # ISO 8601 UTC


@dataclass(frozen=True)
class Token:
    """A token without its secret."""

    tenant: str
    id: str
    title: str
    role: str
    voices: tuple[str, ...]
    doors: tuple[str, ...]
    digest: str  # SHA-256 (hex) of the secret
    created_at: str
    created_by: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    previous_digest: str = ""  # of the secret before the last rotation …
    previous_until: str = ""  # … and how long that one is still taken

    def as_json(self) -> JsonDict:
        hidden = ("digest", "previous_digest")
        return {key: value for key, value in asdict(self).items() if key not in hidden}


class TokenStore:
    """All tokens, in memory and in the database. Only this process writes them, so no request waits for the disk."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, Token] = {}
        self._latest = ""  # the largest time seen: turning the clock back does not revive what has expired
        self._used: dict[str, str] = {}  # id -> time, not yet on disk

    async def load(self) -> None:
        def read(db: sqlite3.Connection) -> tuple[list[Token], str]:
            head = db.execute("SELECT at FROM audit_head").fetchone()
            return [_token(row) for row in db.execute("SELECT * FROM tokens")], head[0] if head else ""

        known, self._latest = await self._db.read(read)
        self._known = {token.id: token for token in known}

    @property
    def are_there(self) -> bool:
        """Whether any token is in force."""
        return any(token.revoked_at is None for token in self._known.values())

    def check(self, presented: str) -> Token:
        """The token that a caller showed.

        Raises NotAuthenticated: token_wrong, and, told only to who knows the secret, token_expired, token_revoked.
        """
        token_id, _, secret = presented.partition(".")
        digest = _digest(secret)
        token = self._known.get(token_id)
        if token is None:
            raise NotAuthenticated("token_wrong")
        is_current = hmac.compare_digest(digest, token.digest)
        is_previous = bool(token.previous_digest) and hmac.compare_digest(digest, token.previous_digest)
        if not is_current and not is_previous:
            raise NotAuthenticated("token_wrong")
        return self._in_use(token, token.previous_until if is_previous and not is_current else token.expires_at)

    def named(self, token_id: str) -> Token:
        """The token with this public id, for a door that the operator bound to it: nobody showed its secret.

        Raises NotAuthenticated: token_not_there, token_expired, token_revoked.
        """
        token = self._known.get(token_id)
        if token is None:
            raise NotAuthenticated("token_not_there", token=token_id[:80])
        return self._in_use(token, token.expires_at)

    def _in_use(self, token: Token, expires_at: str | None) -> Token:
        now = self._now()
        if token.revoked_at is not None:
            raise NotAuthenticated("token_revoked", on=token.revoked_at)
        if expires_at is not None and expires_at <= now:
            raise NotAuthenticated("token_expired", on=expires_at)
        self._used[token.id] = now
        return token

    async def issue(self, tenant: str, new: NewToken) -> tuple[Token, str]:
        """A new token and, this once, what the caller must show."""
        secret = secrets.token_urlsafe(32)
        event = Event(tenant, "token.issue", details={"role": new.role, "doors": " ".join(new.doors)})
        token = Token(
            tenant=tenant,
            id=f"tok_{secrets.token_hex(8)}",
            title=new.title,
            role=new.role,
            voices=new.voices,
            doors=new.doors,
            digest=_digest(secret),
            created_at=utc_now(),
            created_by=event.actor,
            expires_at=new.expires_at,
        )

        def insert(db: sqlite3.Connection) -> None:
            row = {**asdict(token), "voices": json.dumps(token.voices), "doors": json.dumps(token.doors)}
            insert_row(db, "tokens", row)
            append_entry(db, replace(event, subject=token.id))

        await self._db.write(insert, durable=True)
        self._known[token.id] = token
        return token, f"{token.id}.{secret}"

    async def rotate(self, tenant: str, token_id: str, overlap_s: int) -> tuple[Token, str]:
        """Another secret under the same id; the one before is taken for `overlap_s` more seconds. Raises NotFound."""
        token = self.get(tenant, token_id)
        secret = secrets.token_urlsafe(32)
        until = datetime.fromisoformat(self._now()) + timedelta(seconds=overlap_s)
        ends = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if token.expires_at is not None:
            ends = min(ends, token.expires_at)
        changed = replace(token, digest=_digest(secret), previous_digest=token.digest, previous_until=ends)
        await self._change(changed, "token.rotate")
        return changed, f"{token.id}.{secret}"

    async def revoke(self, tenant: str, token_id: str) -> Token:
        """From now on it opens nothing. Idempotent. Raises NotFound("token_not_found")."""
        token = self.get(tenant, token_id)
        if token.revoked_at is not None:
            return token
        changed = replace(token, revoked_at=utc_now())
        await self._change(changed, "token.revoke")
        return changed

    def get(self, tenant: str, token_id: str) -> Token:
        """Raises NotFound("token_not_found")."""
        token = self._known.get(token_id)
        if token is None or token.tenant != tenant:
            raise NotFound("token_not_found", token=token_id[:80])
        return replace(token, last_used_at=self._used.get(token_id, token.last_used_at))

    def list(self, tenant: str) -> list[Token]:
        """Newest first, revoked ones too."""
        mine = (self.get(tenant, token.id) for token in self._known.values() if token.tenant == tenant)
        return sorted(mine, key=lambda token: (token.created_at, token.id), reverse=True)

    async def save_last_use(self) -> None:
        """Bring the times of last use to the disk; cheap when nothing was used."""
        used, self._used = self._used, {}
        if not used:
            return
        for token_id, at in used.items():
            self._known[token_id] = replace(self._known[token_id], last_used_at=at)
        rows = [(at, token_id) for token_id, at in used.items()]
        await self._db.write(lambda db: db.executemany("UPDATE tokens SET last_used_at = ? WHERE id = ?", rows))

    async def _change(self, token: Token, action: str) -> None:
        event = Event(token.tenant, action, subject=token.id)
        row = (token.digest, token.previous_digest, token.previous_until, token.revoked_at, token.id)

        def update(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE tokens SET digest = ?, previous_digest = ?, previous_until = ?, revoked_at = ? WHERE id = ?",
                row,
            )
            append_entry(db, event)

        await self._db.write(update, durable=True)
        self._known[token.id] = token

    def _now(self) -> str:
        self._latest = max(self._latest, utc_now())
        return self._latest


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _token(row: sqlite3.Row) -> Token:
    columns = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates over its values
    return Token(**{**columns, "voices": tuple(json.loads(row["voices"])), "doors": tuple(json.loads(row["doors"]))})
