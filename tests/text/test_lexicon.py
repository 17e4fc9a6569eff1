"""A tenant's own readings, in the front ends that read them."""

from __future__ import annotations

import pytest
from appliance_plugins.text_en.frontend import EnglishFrontend
from appliance_plugins.text_yue.frontend import CantoneseFrontend
from appliance_plugins.text_zh.frontend import MandarinFrontend

from appliance.contracts import TextFrontend, Utterance
from appliance.errors import InvalidInput
from appliance.text.lexicon import Entry, apply_readings, take_overrides

FRONTENDS: dict[str, TextFrontend] = {"zh": MandarinFrontend(), "yue": CantoneseFrontend(), "en": EnglishFrontend()}


def read(text: str, *entries: Entry, language: str = "zh", inventory: str = "gpt_sovits_v2") -> Utterance:
    plain, inline = take_overrides(text)
    utterance = FRONTENDS[language].analyse(plain, inventory)
    return apply_readings([utterance], [*entries, *inline], FRONTENDS, inventory)[0]


def spoken(utterance: Utterance, character: str) -> list[str]:
    return [" ".join(utterance.phones[w.start : w.end]) for w in utterance.words if w.text == character]


def test_a_reading_in_the_text_changes_only_the_place_where_it_stands() -> None:
    changed = read("他姓单，我姓[单](shan4)。")
    assert spoken(changed, "单") == ["d an1", "sh an4"]
    plain = read("他姓单，我姓单。")
    assert changed.normalized == plain.normalized
    assert [(w.text, w.end - w.start) for w in changed.words] == [(w.text, w.end - w.start) for w in plain.words]


def test_an_entry_changes_every_place_and_the_longer_word_wins() -> None:
    entries = (Entry("朝阳", "zhao1 yang2"), Entry("朝阳区", "chao2 yang2 qu1"))
    assert spoken(read("朝阳区的朝阳。", *entries), "朝") == ["ch ao2", "zh ao1"]


def test_a_reading_in_the_text_wins_over_an_entry() -> None:
    assert spoken(read("[重](chong2)启", Entry("重启", "zhong4 qi3")), "重") == ["ch ong2"]


def test_symbols_between_slashes_work_in_every_inventory() -> None:
    assert spoken(read("好。", Entry("好", "/h ao1/")), "好") == ["h ao1"]
    assert spoken(read("你好吗", Entry("好", "/x a u/"), inventory="kokoro"), "好") == ["x a u  "]


def test_kokoro_keeps_the_blank_between_syllables() -> None:
    assert "".join(read("姓单的", Entry("单", "shan4"), inventory="kokoro").phones) == "ɕi↘ŋ ʂa↘n tɤ"


@pytest.mark.parametrize("reading", ["lv4", "LÜ4", "lu:4", "lü4"])
def test_pinyin_is_read_however_its_u_is_typed(reading: str) -> None:
    entry = Entry("绿", reading)
    assert spoken(read("绿。", entry), "绿") == ["l v4"]
    assert "".join(read("绿", entry, inventory="kokoro").phones) == "ly↘"


def test_a_mark_after_the_word_stays() -> None:
    assert spoken(read("他姓[单](shan4)！", Entry("单", "dan1")), "单") == ["sh an4"]
    changed = read("Ask Siobhan, now.", Entry("Siobhan", "shivawn"), language="en", inventory="kokoro")
    assert "".join(changed.phones).startswith("ˈæsk ʃˈɪvɔn, n")


def test_cantonese_is_written_in_jyutping() -> None:
    assert spoken(read("我好", Entry("好", "hou3"), language="yue"), "好") == ["Yh You3"]


def test_other_languages_take_a_word_that_sounds_like_it() -> None:
    changed = read("Ask Siobhan now", Entry("siobhan", "shivawn"), language="en", inventory="kokoro")
    like = FRONTENDS["en"].analyse("shivawn", "kokoro").phones
    (name,) = [w for w in changed.words if w.text == "Siobhan"]
    assert [p for p in changed.phones[name.start : name.end] if p != " "] == [p for p in like if p != " "]


def test_an_entry_of_another_language_is_left_alone() -> None:
    assert spoken(read("好。", Entry("好", "hao4", language="yue")), "好") == ["h ao3"]


@pytest.mark.parametrize(
    ("reading", "code"),
    [
        ("hao3 hao3", "reading_length"),
        ("hxo3", "reading_invalid"),
        ("hao", "reading_invalid"),
        ("/Q9/", "reading_invalid"),
    ],
)
def test_a_reading_that_does_not_fit_is_refused(reading: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read("好。", Entry("好", reading))
    assert caught.value.code == code
    assert caught.value.message("zh") != caught.value.message("en")


@pytest.mark.parametrize("word", ["", " ", "a" * 65, "a]b", "a\nb"])
def test_an_entry_must_be_a_word(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Entry(word, "hao3")
    assert caught.value.code == "lexicon_word_invalid"


def test_brackets_without_a_reading_stay_text() -> None:
    assert take_overrides("看[1](注)和[x](") == ("看1和[x](", [Entry("1", "注", occurrence=0)])
    assert take_overrides("[方括号] (圆括号)")[0] == "[方括号] (圆括号)"
