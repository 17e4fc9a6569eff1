"""Consents: who agreed that a voice is cloned and spoken with, for what, until when."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from appliance.database import Database, insert_row, utc_now
from appliance.errors import Forbidden, InvalidInput, NotFound
from appliance.events import Event, Witness
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.policies import PURPOSES, ConsentPolicy
from appliance.voices.records import SPOKEN, Consent, NewConsent, clean_name, new_id, to_json

_NOTHING_MORE = ConsentPolicy()
_CLOCK = "consents.latest_time"  # the largest time seen: turning the clock back does not revive what has expired


class ConsentStore:
    """Every query is scoped by tenant. Consents are only added and ended."""

    def __init__(self, db: Database, witness: Witness, floor: ConsentPolicy = _NOTHING_MORE) -> None:
        """`witness` writes the audit log: a consent that it cannot record is neither given nor ended. `floor` is what
        the box demands of every tenant; a tenant's own policy adds to it.
        """
        self._db = db
        self._witness = witness
        self._floor = floor
        self.ended = asyncio.Event()  # one was revoked, or a policy changed; see `consent_watch`
        self.touched: set[str] = set()  # tenants whose policy changed

    async def policy(self, tenant: str) -> ConsentPolicy:
        """What is demanded of this tenant's consents, by the box and by the tenant itself."""
        return await self._db.read(lambda db: _policy(db, tenant, self._floor))

    def touch(self, tenant: str) -> None:
        """The policy of a tenant changed: what it no longer allows ends."""
        self.touched.add(tenant)
        self.ended.set()

    async def check(self, tenant: str, new: NewConsent) -> None:
        """Whether it could be recorded. Raises InvalidInput (consent_invalid, purpose_unknown, consent_excluded,
        consent_too_long), Forbidden("consent_must_be_spoken").
        """
        check_consent(new)
        check_policy(new, await self.policy(tenant))

    async def record(self, tenant: str, new: NewConsent) -> Consent:
        """Write down an agreement. Raises as `check`."""
        await self.check(tenant, new)
        event = Event(
            tenant,
            "consent.record",
            voice=new.voice,
            details={"purposes": " ".join(sorted(new.purposes)), "strength": new.strength},
        )

        def insert(db: sqlite3.Connection) -> Consent:
            consent = _insert(db, tenant, new)
            self._witness(db, replace(event, subject=consent.id, consent=consent.id))
            return consent

        return await self._db.write(insert, durable=True)

    async def get(self, tenant: str, consent_id: str) -> Consent:
        """Raises NotFound("consent_not_found")."""
        return await self._db.read(lambda db: _find(db, tenant, consent_id))

    async def list(self, tenant: str, cursor: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Consent]:
        """Newest first, revoked and expired ones included."""
        listing = Listing("SELECT * FROM consents", "tenant = ?", (tenant,), ("created_at", "id"), is_descending=True)
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _consent))

    async def revoke(self, tenant: str, consent_id: str) -> Consent:
        """End it now, and with it every earlier agreement about the same voice and purposes. Idempotent."""

        event = Event(tenant, "consent.revoke")

        def end(db: sqlite3.Connection) -> Consent:
            now = _advance_clock(db)
            found = _find(db, tenant, consent_id)
            row = (now, tenant, found.id)
            db.execute("UPDATE consents SET revoked_at = ? WHERE tenant = ? AND id = ? AND revoked_at IS NULL", row)
            self._witness(db, replace(event, voice=found.voice, subject=found.id, consent=found.id))
            return _find(db, tenant, consent_id)

        ended = await self._db.write(end, durable=True)
        self.ended.set()
        return ended

    async def require(self, tenant: str, voice: str, purpose: str) -> Consent | None:
        """The consent that allows `purpose` with `voice`; None for a starter voice, which needs none.

        The voice need not exist yet (cloning). Raises Forbidden("consent_missing" | "consent_revoked" |
        "consent_expired" | "consent_must_be_spoken" | "consent_excluded"), InvalidInput("purpose_unknown").
        """
        if purpose not in PURPOSES:
            raise InvalidInput("purpose_unknown", purpose=purpose, known=", ".join(PURPOSES))
        return await self._db.read(lambda db: _require(db, (tenant, voice, purpose), self._floor))


def check_consent(new: NewConsent) -> None:
    """Raises InvalidInput("consent_invalid" | "purpose_unknown")."""
    if not new.speaker.strip() or len(new.speaker) > 200 or not new.purposes:
        raise InvalidInput("consent_invalid")
    for purpose in new.purposes:
        if purpose not in PURPOSES:
            raise InvalidInput("purpose_unknown", purpose=purpose, known=", ".join(PURPOSES))


def _moment(text: str | None) -> str | None:
    """A time from outside as this box stores times, so that they compare as text."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput("consent_invalid") from error
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _insert(db: sqlite3.Connection, tenant: str, new: NewConsent) -> Consent:
    consent_id = new_id("con")
    row = {
        "tenant": tenant,
        "id": consent_id,
        "speaker": new.speaker,
        "voice": new.voice,
        "purposes": to_json(sorted(set(new.purposes))),
        "statement": new.statement,
        "evidence": new.evidence,
        "strength": new.strength,
        "created_at": _advance_clock(db),
        "expires_at": _moment(new.expires_at),
    }
    insert_row(db, "consents", row)
    return _find(db, tenant, consent_id)


def check_policy(new: NewConsent, policy: ConsentPolicy) -> None:
    """Raises InvalidInput("consent_excluded" | "consent_too_long"), Forbidden("consent_must_be_spoken")."""
    excluded = [purpose for purpose in new.purposes if purpose in policy.excluded]
    if excluded:
        raise InvalidInput("consent_excluded", purpose=", ".join(excluded))
    if policy.longest_days is not None:
        latest = datetime.now(UTC) + timedelta(days=policy.longest_days, minutes=5)  # clocks differ a little
        ends = _moment(new.expires_at)
        if ends is None or datetime.fromisoformat(ends) > latest:
            raise InvalidInput("consent_too_long", days=policy.longest_days)
    if new.strength != SPOKEN and set(new.purposes) & set(policy.spoken_for):
        raise Forbidden("consent_must_be_spoken", purpose=", ".join(policy.spoken_for))


def _policy(db: sqlite3.Connection, tenant: str, floor: ConsentPolicy) -> ConsentPolicy:
    row = db.execute("SELECT policy FROM tenants WHERE id = ?", (tenant,)).fetchone()
    return floor if row is None else floor.joined(ConsentPolicy.from_json(json.loads(row["policy"])))


def _require(db: sqlite3.Connection, about: tuple[str, str, str], floor: ConsentPolicy) -> Consent | None:
    tenant, voice, purpose = about
    query = "SELECT origin, speaker FROM voices WHERE tenant = ? AND id = ? AND deleted_at IS NULL"
    known = db.execute(query, (tenant, voice)).fetchone()
    if known is not None and known["origin"] == "starter":
        return None
    speaker = "" if known is None else known["speaker"]
    query = (
        "SELECT * FROM consents WHERE tenant = ? AND (voice = ? OR (voice = '' AND speaker = ? AND speaker <> ''))"
        " AND EXISTS (SELECT 1 FROM json_each(purposes) WHERE value = ?) ORDER BY created_at, rowid"
    )
    given = [_consent(row) for row in db.execute(query, (tenant, voice, speaker, purpose))]
    return _judge(given, latest_time(db), (voice, purpose), _policy(db, tenant, floor))


def _judge(given: list[Consent], now: str, about: tuple[str, str], policy: ConsentPolicy) -> Consent:
    """The newest consent that still holds. One given before the latest revocation does not."""
    voice, purpose = about
    if purpose in policy.excluded:
        raise Forbidden("consent_excluded", purpose=purpose)
    revoked = max((consent.revoked_at for consent in given if consent.revoked_at), default="")
    holding = [one for one in given if one.created_at > revoked and not _is_over(one, policy, now)]
    for consent in reversed(holding):
        if consent.strength == SPOKEN or purpose not in policy.spoken_for:
            return consent
    if holding:
        raise Forbidden("consent_must_be_spoken", purpose=purpose)
    if not given:
        raise Forbidden("consent_missing", voice=voice, purpose=purpose)
    if given[-1].created_at <= revoked:
        raise Forbidden("consent_revoked", voice=voice, purpose=purpose, on=revoked)
    raise Forbidden("consent_expired", voice=voice, purpose=purpose, on=_end_of(given[-1], policy))


def _is_over(consent: Consent, policy: ConsentPolicy, now: str) -> bool:
    ends = _end_of(consent, policy)
    return ends is not None and ends <= now


def _end_of(consent: Consent, policy: ConsentPolicy) -> str | None:
    """When a consent ends by itself: at its date or, where that is earlier, by the policy."""
    if policy.longest_days is None:
        return consent.expires_at
    latest = _moment((datetime.fromisoformat(consent.created_at) + timedelta(days=policy.longest_days)).isoformat())
    return min(filter(None, (consent.expires_at, latest)))


def latest_time(db: sqlite3.Connection) -> str:
    """The present, never before a time that was written down already."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_CLOCK,)).fetchone()
    return max(utc_now(), row["value"] if row else "")


def _advance_clock(db: sqlite3.Connection) -> str:
    """`latest_time`, written down."""
    now = latest_time(db)
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_CLOCK, now))
    return now


def _find(db: sqlite3.Connection, tenant: str, consent_id: str) -> Consent:
    row = db.execute("SELECT * FROM consents WHERE tenant = ? AND id = ?", (tenant, clean_name(consent_id))).fetchone()
    if row is None:
        raise NotFound("consent_not_found", consent=clean_name(consent_id)[:80])
    return _consent(row)


def _consent(row: sqlite3.Row) -> Consent:
    return Consent(
        tenant=row["tenant"],
        id=row["id"],
        speaker=row["speaker"],
        voice=row["voice"],
        purposes=tuple(json.loads(row["purposes"])),
        statement=row["statement"],
        evidence=row["evidence"],
        strength=row["strength"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
