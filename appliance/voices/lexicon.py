"""A tenant's lexicon: words and how they are read in a language."""

from __future__ import annotations

import asyncio
import sqlite3
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from appliance.contracts import JsonDict, Pronunciation, TextFrontend
from appliance.database import Database, insert_row, utc_now
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.paging import DEFAULT_LIMIT, Listing, Page, read_page
from appliance.text.cleaning import clean_text
from appliance.text.lexicon import Entry, Pronouncer, check_symbols, count_word, read_syllables

MOST_ENTRIES = 5_000  # of one tenant: they are looked through at every request
LONGEST_READING = 256
# languages, and the script (the start of Unicode names) that their readings are written in
SCRIPTS: dict[str, tuple[str, ...]] = {
    "zh": ("LATIN",),
    "en": ("LATIN",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "yue": ("LATIN",),
}


@dataclass(frozen=True)
class LexiconEntry:
    """One word of a tenant."""

    tenant: str
    language: str
    word: str
    reading: str
    created_at: str

    def as_json(self) -> JsonDict:
        return {key: value for key, value in asdict(self).items() if key != "tenant"}


class LexiconStore:
    """Every query is scoped by tenant. A word has one reading in a language; capital letters do not matter."""

    def __init__(self, db: Database, frontends: Mapping[str, Callable[[], TextFrontend]]) -> None:
        """`frontends` say which syllables there are in languages that are written in syllables."""
        self._db = db
        self._frontends = frontends

    async def list(
        self, tenant: str, language: str = "", cursor: str | None = None, limit: int = DEFAULT_LIMIT
    ) -> Page[LexiconEntry]:
        """By language and word; `language` "" lists all."""
        where, values = "tenant = ? AND language = ?", (tenant, language)
        if not language:
            where, values = "tenant = ?", (tenant,)  # type: ignore[assignment]
        listing = Listing("SELECT * FROM lexicon", where, values, ("language", "word"))
        return await self._db.read(lambda db: read_page(db, listing, cursor, limit, _entry))

    async def put(self, tenant: str, new: Pronunciation) -> LexiconEntry:
        """Add the word, or give it another reading.

        Raises InvalidInput (lexicon_language_unknown, lexicon_word_invalid, reading_invalid, reading_length,
        lexicon_reading_unreadable), Conflict("lexicon_full").
        """
        checked = await asyncio.to_thread(self._checked, new)
        row = LexiconEntry(tenant, checked.language, checked.word, checked.reading, utc_now())

        def write(db: sqlite3.Connection) -> LexiconEntry:
            key = (tenant, row.language, row.word)
            db.execute("DELETE FROM lexicon WHERE tenant = ? AND language = ? AND word = ?", key)
            held = db.execute("SELECT count(*) FROM lexicon WHERE tenant = ?", (tenant,)).fetchone()[0]
            if held >= MOST_ENTRIES:
                raise Conflict("lexicon_full", entries=held)
            insert_row(db, "lexicon", asdict(row))
            return row

        return await self._db.write(write, durable=True)

    async def delete(self, tenant: str, language: str, word: str) -> None:
        """Raises NotFound("lexicon_entry_not_found")."""
        key = (tenant, language, clean_text(word).strip())

        def erase(db: sqlite3.Connection) -> None:
            query = "DELETE FROM lexicon WHERE tenant = ? AND language = ? AND word = ?"
            if not db.execute(query, key).rowcount:
                raise NotFound("lexicon_entry_not_found", language=language[:20], word=word[:64])

        await self._db.write(erase, durable=True)

    async def find(self, tenant: str, text: str) -> tuple[Pronunciation, ...]:
        """The entries whose words are in `text`, in one order whatever the order of their making."""
        query = "SELECT * FROM lexicon WHERE tenant = ? ORDER BY language, word"
        rows = await self._db.read(lambda db: db.execute(query, (tenant,)).fetchall())
        folded = text.casefold()
        return tuple(
            Pronunciation(row["word"], row["reading"], row["language"])
            for row in rows
            if row["word"].casefold() in folded and count_word(text, row["word"])
        )

    def _checked(self, new: Pronunciation) -> Entry:
        if new.language not in SCRIPTS:
            raise InvalidInput("lexicon_language_unknown", language=new.language[:20], known=", ".join(SCRIPTS))
        entry = Entry(clean_text(new.word).strip(), clean_text(new.reading).strip(), new.language)
        if len(entry.reading) > LONGEST_READING:
            raise InvalidInput("lexicon_reading_unreadable", language=entry.language, reading=entry.reading[:80])
        if entry.reading.startswith("/"):
            check_symbols(entry.reading)
            return entry
        factory = self._frontends.get(entry.language)
        frontend = None if factory is None else factory()
        if isinstance(frontend, Pronouncer):
            read_syllables(entry, frontend)
        elif not any(unicodedata.name(c, "").startswith(SCRIPTS[entry.language]) for c in entry.reading):
            raise InvalidInput("lexicon_reading_unreadable", language=entry.language, reading=entry.reading[:80])
        return entry


def _entry(row: sqlite3.Row) -> LexiconEntry:
    return LexiconEntry(**dict(row))
