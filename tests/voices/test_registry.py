from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.contracts import StarterVoice
from appliance.database import Database, open_database
from appliance.errors import Conflict, Corrupt, InvalidInput, NotFound
from appliance.voices.blobs import BlobStore
from appliance.voices.records import NewVersion, NewVoice, VoiceVersion
from appliance.voices.registry import VoiceRegistry

STARTER = StarterVoice(
    "jf_one", "One", "calm", "female", ("zh", "en"), "Apache-2.0", "somebody", {"pack": b"p" * 64}, {"pack": "jf_one"}
)


async def _anna(
    registry: VoiceRegistry, blobs: BlobStore, versions: int = 1, tenant: str = "main"
) -> list[VoiceVersion]:
    await registry.create_voice(tenant, NewVoice("anna", "Anna", languages=("zh",)))
    new = [NewVersion("sine", {"hz": blobs.put_bytes(b"%d" % n)}, {"n": n}, {}, {"seed": n}) for n in range(versions)]
    return [await registry.add_version(tenant, "anna", one) for one in new]


async def test_versions_are_numbered_and_only_promotion_moves_the_alias(
    registry: VoiceRegistry, blobs: BlobStore
) -> None:
    first, second = await _anna(registry, blobs, 2)
    assert (first.spec, second.spec) == ("anna@1", "anna@2")
    with pytest.raises(NotFound) as waiting:
        await registry.resolve("main", "anna")
    assert waiting.value.code == "voice_not_ready"
    assert await registry.resolve("main", "anna@1") == first
    assert (await registry.promote("main", "anna", 2)).current == 2
    assert await registry.resolve("main", "anna") == second
    await registry.promote("main", "anna", 1, reason="rolled back")
    assert await registry.resolve("main", "anna") == first
    moves = await registry.alias_moves("main", "anna")
    assert [(m.from_number, m.to_number, m.reason) for m in moves] == [(None, 2, "promoted"), (2, 1, "rolled back")]


@pytest.mark.parametrize(
    ("spec", "version", "code"),
    [
        ("nobody", None, "voice_not_found"),
        ("nobody@1", None, "voice_not_found"),
        ("Anna", None, "voice_not_found"),
        ("anna@9", None, "version_not_found"),
        ("anna@0", None, "version_not_found"),
        ("anna@x", None, "version_not_found"),
        ("anna@", None, "version_not_found"),
        ("anna@1@1", None, "version_not_found"),
        ("anna", 99999999999999999999999, "version_not_found"),
        ("anna", -1, "version_not_found"),
        ("\ud800", None, "voice_not_found"),
        ("anna\0", None, "voice_not_found"),
        ("' OR 1=1 --", None, "voice_not_found"),
    ],
)
async def test_what_is_not_there_is_never_replaced_by_something_else(
    registry: VoiceRegistry, blobs: BlobStore, spec: str, version: int | None, code: str
) -> None:
    await _anna(registry, blobs)
    await registry.promote("main", "anna", 1)
    with pytest.raises(NotFound) as missing:
        await registry.resolve("main", spec, version)
    assert missing.value.code == code


async def test_a_version_named_twice_must_agree(registry: VoiceRegistry, blobs: BlobStore) -> None:
    await _anna(registry, blobs, 2)
    assert (await registry.resolve("main", "anna@2", 2)).number == 2
    with pytest.raises(InvalidInput):
        await registry.resolve("main", "anna@2", 1)


async def test_another_tenant_sees_and_moves_nothing(registry: VoiceRegistry, blobs: BlobStore) -> None:
    await _anna(registry, blobs)
    await registry.promote("main", "anna", 1)
    attempts = [
        registry.get_voice("other", "anna"),
        registry.versions("other", "anna"),
        registry.resolve("other", "anna"),
        registry.resolve("other", "anna@1"),
        registry.promote("other", "anna", 1),
        registry.add_version("other", "anna", NewVersion("sine")),
        registry.delete_voice("other", "anna"),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound) as missing:
            await attempt
        assert missing.value.code == "voice_not_found"
    assert (await registry.list_voices("other")).items == ()
    assert await registry.alias_moves("other", "anna") == ()
    await registry.create_voice("other", NewVoice("anna", "Another Anna"))
    assert (await registry.get_voice("main", "anna")).title == "Anna"
    assert (await registry.resolve("main", "anna")).number == 1


@pytest.mark.parametrize("voice_id", ["", "Anna", "-a", "_a", "a" * 64, "安娜", "a b", "a/b", "a@1", "a\n", "../a"])
async def test_an_id_that_would_not_fit_a_url_is_refused(registry: VoiceRegistry, voice_id: str) -> None:
    with pytest.raises(InvalidInput):
        await registry.create_voice("main", NewVoice(voice_id))


async def test_fifty_concurrent_versions_get_fifty_numbers(registry: VoiceRegistry) -> None:
    await registry.create_voice("main", NewVoice("anna"))
    made = await asyncio.gather(
        *(registry.add_version("main", "anna", NewVersion("sine", {}, {"n": n})) for n in range(50))
    )
    assert sorted(version.number for version in made) == list(range(1, 51))
    assert len(await registry.versions("main", "anna")) == 50


async def test_of_two_who_create_one_voice_one_succeeds(registry: VoiceRegistry) -> None:
    both = await asyncio.gather(
        *(registry.create_voice("main", NewVoice("anna")) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["Conflict", "Voice"]


async def test_sql_refuses_to_rewrite_a_version(registry: VoiceRegistry, blobs: BlobStore, db: Database) -> None:
    await _anna(registry, blobs)
    for statement in (
        "UPDATE voice_versions SET settings = '{}'",
        "DELETE FROM voice_versions",
        "DELETE FROM alias_moves",
    ):
        await registry.promote("main", "anna", 1)
        with pytest.raises(sqlite3.IntegrityError):
            await db.write(lambda connection, statement=statement: connection.execute(statement))
    assert (await registry.resolve("main", "anna@1")).settings == {"n": 0}


async def test_a_version_needs_files_that_are_there(registry: VoiceRegistry) -> None:
    await registry.create_voice("main", NewVoice("anna"))
    with pytest.raises(NotFound) as missing:
        await registry.add_version("main", "anna", NewVersion("sine", {"pack": "0" * 64}))
    assert missing.value.code == "blob_not_found"
    assert await registry.versions("main", "anna") == ()


async def test_a_deleted_voice_is_gone_and_its_id_does_not_bring_old_versions_back(
    registry: VoiceRegistry, blobs: BlobStore
) -> None:
    await _anna(registry, blobs, 2)
    await registry.promote("main", "anna", 2)
    await registry.delete_voice("main", "anna")
    for spec in ("anna", "anna@1", "anna@2"):
        with pytest.raises(NotFound):
            await registry.resolve("main", spec)
    assert (await registry.list_voices("main")).items == ()
    voice = await registry.create_voice("main", NewVoice("anna", "Somebody else"))
    assert (voice.current, voice.latest) == (None, None)
    with pytest.raises(NotFound):
        await registry.resolve("main", "anna@2")
    assert (await registry.add_version("main", "anna", NewVersion("sine"))).number == 3


async def test_assets_are_checked_and_their_key_depends_on_all_that_is_heard(
    registry: VoiceRegistry, blobs: BlobStore
) -> None:
    first, second = await _anna(registry, blobs, 2)
    one, again, two = await registry.assets(first), await registry.assets(first), await registry.assets(second)
    assert one == again and one.key != two.key and one.key.startswith("sha256:")
    assert one.files["hz"].read_bytes() == b"0"
    one.files["hz"].chmod(0o600)
    one.files["hz"].write_bytes(b"1")
    with pytest.raises(Corrupt):
        await registry.assets(first)
    await registry.assets(second)


async def test_a_large_file_that_changes_is_found_too(registry: VoiceRegistry, blobs: BlobStore) -> None:
    await registry.create_voice("main", NewVoice("anna"))
    digest = blobs.put_bytes(bytes(9 << 20))
    version = await registry.add_version("main", "anna", NewVersion("sine", {"weights": digest}))
    await registry.assets(version)
    path = blobs.path(digest)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"\x01")
    with pytest.raises(Corrupt):
        await registry.assets(version)


async def test_starters_are_filed_once_and_stay_deleted(registry: VoiceRegistry) -> None:
    assert await registry.seed_starters("main", "sine", [STARTER]) == 1
    assert await registry.seed_starters("main", "sine", [STARTER]) == 0
    version = await registry.resolve("main", "jf_one")
    assert (version.number, version.lineage["licence"]) == (1, "Apache-2.0")
    assert (await registry.assets(version)).files["pack"].read_bytes() == b"p" * 64
    assert (await registry.get_voice("main", "jf_one")).origin == "starter"
    await registry.delete_voice("main", "jf_one")
    assert await registry.seed_starters("main", "sine", [STARTER]) == 0
    assert await registry.seed_starters("other", "sine", [STARTER]) == 1


async def test_pages_walk_through_everything_once(registry: VoiceRegistry) -> None:
    names = [f"v{n:03}" for n in range(23)]
    for name in reversed(names):
        await registry.create_voice("main", NewVoice(name))
    await registry.create_voice("other", NewVoice("v0005"))
    seen, cursor = list[str](), None
    while True:
        page = await registry.list_voices("main", cursor, 5)
        seen += [voice.id for voice in page.items]
        assert set(page.as_json()) == {"items", "next"}
        if (cursor := page.next) is None:
            break
    assert seen == names


@pytest.mark.parametrize(
    "cursor", ["x", "bm90IGpzb24", "W251bGxd", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "W10", "é", "eyJhIjoxfQ"]
)
async def test_a_foreign_cursor_is_refused(registry: VoiceRegistry, cursor: str) -> None:
    with pytest.raises(InvalidInput):
        await registry.list_voices("main", cursor)


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    async with open_database(tmp_path / "voiced.db") as db:
        await _anna(VoiceRegistry(db, blobs), blobs)
        await VoiceRegistry(db, blobs).promote("main", "anna", 1)
    async with open_database(tmp_path / "voiced.db") as db:
        assert (await VoiceRegistry(db, blobs).resolve("main", "anna")).lineage == {"seed": 0}


async def test_a_taken_id_is_a_conflict(registry: VoiceRegistry) -> None:
    await registry.create_voice("main", NewVoice("anna"))
    with pytest.raises(Conflict) as taken:
        await registry.create_voice("main", NewVoice("anna"))
    assert "anna" in taken.value.message("zh")


async def test_who_speaks_where_nobody_is_named(registry: VoiceRegistry) -> None:
    """Own voices, the one promoted last first; then starters of the default engine, as the engine lists them."""
    other = replace(STARTER, name="aa_other")
    await registry.seed_starters("main", "other", [other])
    await registry.seed_starters("main", "sine", [replace(STARTER, name="zz_first"), STARTER])
    for name in ("anna", "bert", "carl"):
        await registry.create_voice("main", NewVoice(name))
        await registry.add_version("main", name, NewVersion("sine", {}))
    await registry.promote("main", "bert", 1)
    await registry.promote("main", "anna", 1)
    await registry.delete_voice("main", "bert")
    order = [voice.id for voice in await registry.speaking_voices("main", "sine")]
    assert order == ["anna", "zz_first", STARTER.name, "aa_other"]  # carl was never promoted
    await registry.add_version("main", "carl", NewVersion("sine", {}))
    await registry.promote("main", "carl", 2)
    assert (await registry.speaking_voices("main", "sine"))[0].id == "carl"
