"""Readings in a text and the clauses that it is cut into."""

from __future__ import annotations

import pytest

from appliance.contracts import Pronunciation
from appliance.errors import InvalidInput
from appliance.text.clauses import split_clauses
from appliance.text.lexicon import Entry, find_overrides, share_readings
from appliance.text.marked import split_marked

LONG = "今天下午三点，我们在重庆的门店见面。单先生会来，请大家准时到场，不要迟到。"


def test_text_without_readings_is_cut_as_ever() -> None:
    assert [clause.text for clause in split_marked(LONG)] == split_clauses(LONG)


def test_each_clause_gets_its_own_readings_and_no_markup() -> None:
    clauses = split_marked("单位的单先生说，姓[单](shan4)的人不多，这很少见。下一位是简单的[单](shan4)女士，请进来吧。")
    assert (
        "".join(text for text, _ in clauses)
        == "单位的单先生说，姓单的人不多，这很少见。下一位是简单的单女士，请进来吧。"
    )
    assert len(clauses) > 1
    found = [(text, entry) for text, readings in clauses for entry in readings]
    assert len(found) == 2
    for text, entry in found:
        places = [at for at in range(len(text)) if text[at] == "单"]
        assert entry.occurrence is not None and text[places[entry.occurrence] + 1] in "的女"
        assert entry == Entry("单", "shan4", occurrence=entry.occurrence)


@pytest.mark.parametrize("name", ["St. Johns, Ltd.", "Stop! Look! Listen!", "一二三，四五六。七八九", "a b c d"])
def test_a_word_with_a_reading_is_never_cut(name: str) -> None:
    around = "Welcome to the shop of our friends, which is called {}, and where everybody is happy. Come in, please."
    clauses = split_marked(around.format(f"[{name}](so)"))
    (holder,) = [text for text, readings in clauses if readings]
    assert name in holder
    assert "".join("".join(text.split()) for text, _ in clauses) == "".join(around.format(name).split())


def test_links_and_loose_brackets_stay_text() -> None:
    text = "see [docs](https://example.com/a) and [x] (y)"
    assert find_overrides(text) == (text, [])


def test_readings_follow_their_place_into_pieces() -> None:
    first, second = Pronunciation("单", "shan4", occurrence=2), Pronunciation("重庆", "chong2 qing4", "zh")
    assert share_readings(["单，单。", "单！"], [first, second]) == [
        (second,),
        (Pronunciation("单", "shan4", occurrence=0), second),
    ]
    with pytest.raises(InvalidInput) as caught:
        share_readings(["单，单。"], [first])
    assert caught.value.code == "override_not_placed"
