"""Text that is still being written."""

from __future__ import annotations

import time

import pytest

from appliance.text.incremental import TextFeed


def feed_letters(text: str) -> list[str]:
    """Everything handed out when `text` comes letter by letter and is flushed at its end."""
    feed, pieces = TextFeed(), []
    for letter in text:
        pieces += feed.push(letter)
    return pieces + feed.flush()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Good morning. How are you?", ["Good morning. ", "How are you?"]),
        (
            "It costs 3.14 dollars, Mr. Smith. Really!? Yes.",
            ["It costs 3.14 dollars, ", "Mr. Smith. ", "Really!? ", "Yes."],
        ),
        ("今天天气很好。我们去公园吧", ["今天天气很好。", "我们去公园吧"]),
        ("好，今天下午三点，在会议室开会。", ["好，今天下午三点，", "在会议室开会。"]),
        ("他姓[单](shan4)。你好", ["他姓[单](shan4)。", "你好"]),
        ("他姓[单。](shan4)你好。", ["他姓[单。](shan4)你好。"]),
        ("No end in sight", ["No end in sight"]),
        ("… !!! 😀", []),
        ("", []),
    ],
)
def test_pieces_end_where_a_reader_would_breathe_however_the_text_comes(text, pieces):
    assert feed_letters(text) == pieces


def test_a_sentence_is_handed_out_before_the_next_one_is_complete():
    feed = TextFeed()
    assert feed.push("The shop closes in ten minutes. Plea") == ["The shop closes in ten minutes. "]
    assert feed.push("se come") == []
    assert feed.flush() == ["Please come"]
    assert feed.flush() == []


def test_no_letter_is_lost_or_doubled():
    text = "One, two: three. 四，五！ 6.7 (eight) [九](jiu3)。\n\nTen... “eleven.” Twelve"
    assert "".join(feed_letters(text)) == text
    assert "".join(TextFeed().push(text)) == text.removesuffix("Twelve")


def test_marks_without_a_word_cost_little_time() -> None:
    feed, started = TextFeed(), time.process_time()
    assert feed.push(". " * 20_000) == [] and feed.flush() == []
    assert time.process_time() - started < 2.0  # 0.1 s; 15 s when every mark had all before it read again
