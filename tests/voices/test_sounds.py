"""What announcements keep of a voice goes with it, and with it only."""

from __future__ import annotations

from appliance.voices.sounds import forget_announced


async def test_a_voice_of_a_like_name_keeps_its_sounds(db):
    """An underscore is a letter of names, not a wildcard."""
    voices = ("an_a", "an_a@2", "anna", "anna@1", "an_ab")
    insert = "INSERT INTO spoken (tenant, rendition, voice, audio, duration_s, made_at) VALUES ('shop', ?, ?, ?, 1, '')"
    rows = [(f"rendition of {voice}", voice, f"sound of {voice}") for voice in voices]
    await db.write(lambda db: db.executemany(insert, rows))

    gone = await db.write(lambda db: forget_announced(db, "shop", ["an_a"]))

    kept = await db.read(lambda db: {row["voice"] for row in db.execute("SELECT voice FROM spoken")})
    assert gone == {"sound of an_a", "sound of an_a@2"}
    assert kept == {"anna", "anna@1", "an_ab"}
