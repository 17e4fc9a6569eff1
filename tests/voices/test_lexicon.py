"""The lexicon of a tenant, on a real database and with the front ends that are installed."""

from __future__ import annotations

import pytest
from appliance_plugins.text_en.frontend import EnglishFrontend
from appliance_plugins.text_yue.frontend import CantoneseFrontend
from appliance_plugins.text_zh.frontend import MandarinFrontend

from appliance.contracts import Pronunciation
from appliance.database import Database
from appliance.errors import Conflict, InvalidInput, NotFound
from appliance.voices import lexicon
from appliance.voices.lexicon import LexiconStore

FRONTENDS = {"zh": MandarinFrontend, "yue": CantoneseFrontend, "en": EnglishFrontend}


def word(written: str, reading: str, language: str = "zh") -> Pronunciation:
    return Pronunciation(written, reading, language)


@pytest.fixture
def store(db: Database) -> LexiconStore:
    return LexiconStore(db, FRONTENDS)


async def test_a_word_is_kept_replaced_and_forgotten(store: LexiconStore) -> None:
    await store.put("main", word(" Siobhan ", "shivawn", "en"))
    await store.put("main", word("siobhan", "/SH IH0 V AO1 N/", "en"))
    made = await store.put("main", word("重庆", "chong2 qing4"))
    rows = (await store.list("main")).items
    assert [(row.language, row.word, row.reading) for row in rows] == [
        ("en", "siobhan", "/SH IH0 V AO1 N/"),
        ("zh", "重庆", "chong2 qing4"),
    ]
    assert (await store.list("main", "zh")).items == (made,)
    await store.delete("main", "en", "SIOBHAN")
    with pytest.raises(NotFound) as gone:
        await store.delete("main", "en", "siobhan")
    assert gone.value.code == "lexicon_entry_not_found"


async def test_only_words_of_the_text_are_found_and_only_those_of_the_tenant(store: LexiconStore) -> None:
    await store.put("main", word("重庆", "chong2 qing4"))
    await store.put("main", word("Ada", "ayda", "en"))
    await store.put("other", word("重庆", "zhong4 qing4"))
    assert await store.find("main", "我在重庆。Canada") == (word("重庆", "chong2 qing4"),)
    assert await store.find("other", "我在重庆。ADA") == (word("重庆", "zhong4 qing4"),)
    assert await store.find("main", "ADA") == (word("Ada", "ayda", "en"),)
    with pytest.raises(NotFound):
        await store.delete("other", "en", "Ada")
    assert len((await store.list("main")).items) == 2


@pytest.mark.parametrize(
    ("new", "code", "part"),
    [
        (word("重庆", "chong2 qinq4"), "reading_invalid", "qinq4"),
        (word("重庆", "chong2"), "reading_length", None),
        (word("重庆", "chong qing"), "reading_invalid", "chong"),
        (word("书", "shue1"), "reading_invalid", "shue1"),
        (word("重庆", "冲庆"), "reading_invalid", "冲庆"),
        (word("好", "hou9", "yue"), "reading_invalid", "hou9"),
        (word("Siobhan", "/SH XX9/", "en"), "reading_invalid", "XX9"),
        (word("Siobhan", "/SH ʃ/", "en"), "reading_invalid", "SH"),  # of two inventories
        (word("Siobhan", "希", "en"), "lexicon_reading_unreadable", None),
        (word("Siobhan", "!?", "en"), "lexicon_reading_unreadable", None),
        (word("Siobhan", "s" * 300, "en"), "lexicon_reading_unreadable", None),
        (word("日本", "nippon", "ja"), "lexicon_reading_unreadable", None),
        (word("한국", "hangug", "ko"), "lexicon_reading_unreadable", None),
        (word("ok", "okay", "tlh"), "lexicon_language_unknown", None),
        (word("", "okay", "en"), "lexicon_word_invalid", None),
        (word("a]b", "okay", "en"), "lexicon_word_invalid", None),
        (word("ok", "//", "en"), "lexicon_word_invalid", None),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(
    store: LexiconStore, new: Pronunciation, code: str, part: str | None
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.put("main", new)
    assert caught.value.code == code
    assert part is None or caught.value.measured["part"] == part
    assert caught.value.message("zh") != caught.value.message("en")
    assert not (await store.list("main")).items


async def test_a_full_lexicon_takes_other_readings_but_no_more_words(
    store: LexiconStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lexicon, "MOST_ENTRIES", 1)
    await store.put("main", word("单", "shan4"))
    await store.put("main", word("单", "chan2"))
    with pytest.raises(Conflict) as caught:
        await store.put("main", word("重", "chong2"))
    assert caught.value.code == "lexicon_full"
    assert [row.reading for row in (await store.list("main")).items] == ["chan2"]
