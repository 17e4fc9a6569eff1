"""What a release without encryption left plain is encrypted once, at the first start of one that has it.

It may be killed at any moment: a plain file goes when its encrypted copies are on the disk, and the next start goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance.database import Database, utc_now
from appliance.schema import immutable
from appliance.vault.keys import RECORDING, VOICE, Owner, owner_of
from appliance.vault.places import plain_place
from appliance.vault.room import Vault
from appliance.vault.sealing import key_id_of
from appliance.vault.values import is_sealed_text
from appliance.voices.blobs import BlobStore
from appliance.voices.datasets import seal_clip
from appliance.voices.recordings import owner_of_recording, seal_transcript
from appliance.voices.records import to_json
from appliance.voices.voiceprints import seal_print

log = logging.getLogger(__name__)

DONE = "encrypted_at"  # key in the table `meta`

_RECORDED = "SELECT tenant, speaker, id, sha256 FROM recordings WHERE deleted_at IS NULL"
_SAYS = "SELECT t.tenant, o.speaker, o.id,"
_OWN = "JOIN voices AS o ON o.tenant = t.tenant AND o.origin = 'own' AND (t.voice = o.id OR"
_OF_VOICES = (  # tenant, speaker, voice, digest
    f"{_SAYS} f.value FROM voice_versions AS t {_OWN} 0), json_each(t.files) AS f",
    f"{_SAYS} t.sha256 FROM renditions AS t {_OWN} 0)",
    *(
        f"{_SAYS} t.{column} FROM {table} AS t"
        f" {_OWN} substr(t.voice, 1, length(o.id) + 1) = o.id || '@') WHERE t.{column} IS NOT NULL"
        for table, column in (("spoken", "audio"), ("announcements", "audio"), ("dubbings", "track"))
    ),
)
_NOBODYS = """
SELECT f.value FROM models, json_each(models.files) AS f WHERE models.removed_at IS NULL
UNION SELECT f.value FROM voice_versions AS t
    JOIN voices AS o ON o.tenant = t.tenant AND o.id = t.voice AND o.origin = 'starter', json_each(t.files) AS f
UNION SELECT t.sha256 FROM renditions AS t WHERE NOT EXISTS (
    SELECT 1 FROM voices AS o WHERE o.tenant = t.tenant AND o.id = t.voice AND o.origin = 'own')"""


async def seal_up(db: Database, blobs: BlobStore, spoken: Path) -> int:
    """Encrypt what has an owner and lies plain; how many files. `spoken`, the cached renditions, is emptied.

    Does nothing where it has been done, or without a vault. Raises StorageFull, Unavailable (master_key_…).
    """
    done = await db.read(lambda one: one.execute("SELECT 1 FROM meta WHERE key = ?", (DONE,)).fetchone())
    if done is not None or blobs.vault is None:
        return 0
    await asyncio.to_thread(shutil.rmtree, spoken, ignore_errors=True)
    owned, nobodys = await db.read(_holders)
    count = await asyncio.to_thread(_seal_files, blobs, owned, nobodys)
    vault = blobs.vault
    await db.write(lambda one: _seal_rows(one, vault), durable=True)
    await db.fold()
    if count:
        log.info("%d files of speakers are encrypted now", count)
    return count


def _holders(db: sqlite3.Connection) -> tuple[dict[str, set[Owner]], set[str]]:
    """Digest -> whose it is; and the digests that are also nobody's."""
    owned: dict[str, set[Owner]] = {}
    for row in db.execute(_RECORDED):
        owned.setdefault(row[3], set()).add(owner_of(row[0], row[1], RECORDING, row[2]))
    for query in _OF_VOICES:
        for row in db.execute(query):
            owned.setdefault(row[3], set()).add(owner_of(row[0], row[1], VOICE, row[2]))
    return owned, {row[0] for row in db.execute(_NOBODYS)}


def _seal_files(blobs: BlobStore, owned: dict[str, set[Owner]], nobodys: set[str]) -> int:
    count = 0
    for digest in sorted(owned.keys() - nobodys):
        if blobs.is_plain(digest):
            for owner in sorted(owned[digest]):
                blobs.put_file(plain_place(blobs.root, digest), owner)
            blobs.remove_plain(digest)
            count += 1
    return count


def _seal_rows(db: sqlite3.Connection, vault: Vault) -> None:
    """Words and voiceprints, in one transaction. Rows of datasets are immutable but for this."""
    for row in list(_plain(db, "SELECT tenant, id, speaker, transcript FROM recordings WHERE transcript <> ''")):
        owner = owner_of_recording(row["tenant"], row["speaker"], row["id"])
        words = seal_transcript(vault, row["transcript"], owner, row["id"])
        db.execute(
            "UPDATE recordings SET transcript = ? WHERE tenant = ? AND id = ?", (words, row["tenant"], row["id"])
        )
    for row in db.execute("SELECT rowid, * FROM voiceprints").fetchall():
        if key_id_of(row["vectors"]) is None:
            vectors = seal_print(db, vault, row["tenant"], row["recording"], row["vectors"])
            db.execute("UPDATE voiceprints SET vectors = ? WHERE rowid = ?", (vectors, row["rowid"]))
    rules = immutable("datasets")
    db.execute("DROP TRIGGER datasets_no_update")
    for row in db.execute("SELECT rowid, tenant, clips FROM datasets").fetchall():
        clips = [_sealed_clip(db, vault, row["tenant"], clip) for clip in json.loads(row["clips"])]
        db.execute("UPDATE datasets SET clips = ? WHERE rowid = ?", (to_json(clips), row["rowid"]))
    db.execute(rules[0])
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (DONE, utc_now()))


def _plain(db: sqlite3.Connection, query: str) -> Iterator[sqlite3.Row]:
    return (row for row in db.execute(query) if not is_sealed_text(row["transcript"]))


def _sealed_clip(db: sqlite3.Connection, vault: Vault, tenant: str, clip: dict[str, object]) -> dict[str, object]:
    return clip if is_sealed_text(str(clip["transcript"])) else seal_clip(db, vault, tenant, clip)
