"""Which watermark belongs to which rendition, and who got speech without an audible label."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from appliance.contracts import JsonDict
from appliance.database import Database, insert_row, utc_now

KEPT_DAYS = 183  # deliveries without an audible label: at least six months (Labelling Measures, article 9)


@dataclass(frozen=True)
class Marked:
    """What a watermark leads to."""

    tenant: str
    payload: int  # 40 bits
    rendition: str
    voice: str
    number: int
    text_sha256: str
    first_at: str
    last_at: str
    times: int  # equal requests give one rendition and one watermark

    def as_json(self) -> JsonDict:
        return asdict(self) | {"payload": f"{self.payload:010x}"}


def payload_of(tenant: str, rendition: str) -> int:
    """40 bits that depend on the rendition alone, so that equal requests stay bit-identical, mark included."""
    digest = hashlib.sha256(f"watermark payload\0{tenant}\0{rendition}".encode()).digest()
    return int.from_bytes(digest[:5], "big")


class MarkLedger:
    """Writing is scoped by tenant; a watermark is looked up over the whole box, because a sound does not say whose it is."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def record(self, marked: Marked) -> None:
        """File a mark; one that is known is counted. Raises StorageFull."""
        row = asdict(marked)
        columns = ", ".join(row)

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                f"INSERT INTO marks ({columns}) VALUES ({', '.join('?' * len(row))})"  # noqa: S608 - field names
                " ON CONFLICT (tenant, rendition) DO UPDATE SET last_at = excluded.last_at, times = times + 1",
                tuple(row.values()),
            )

        await self._db.write(write)

    async def find(self, payload: int) -> tuple[Marked, ...]:
        """The renditions with this watermark, of all tenants: one, or none when the ledger was lost."""
        query = "SELECT * FROM marks WHERE payload = ? ORDER BY first_at"
        return await self._db.read(lambda db: tuple(Marked(**dict(row)) for row in db.execute(query, (payload,))))

    async def record_unlabelled(self, tenant: str, row: JsonDict) -> None:
        """Note who got speech without an audible label; kept for KEPT_DAYS. Raises StorageFull: then nobody gets it."""
        oldest = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat(timespec="milliseconds")

        def write(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM unlabelled WHERE tenant = ? AND at < ?", (tenant, oldest))
            insert_row(db, "unlabelled", {"tenant": tenant, "at": utc_now(), **row})

        await self._db.write(write, durable=True)

    async def unlabelled(self, tenant: str, limit: int = 500) -> list[JsonDict]:
        """The latest deliveries without an audible label, newest first."""
        query = "SELECT * FROM unlabelled WHERE tenant = ? ORDER BY sequence DESC LIMIT ?"
        return await self._db.read(lambda db: [dict(row) for row in db.execute(query, (tenant, limit))])
