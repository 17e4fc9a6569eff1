"""Bytes that came as text -> text that can be spoken. Pure, linear in the length, never raises for any `str`.

What goes: NUL and other control characters, lone surrogates, zero-width and bidirectional marks, variation selectors,
private-use characters, and markup. Markup means what *looks like* an XML tag (`<break time="1s"/>`, `</p>`, a comment,
a processing instruction); its content stays. `a < b` and `<3` are text and stay.
"""

from __future__ import annotations

import re
import unicodedata

_MAX_MARKS = 4  # combining marks kept per base character; normalisation sorts a run of marks in quadratic time

_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\ue000-\uf8ff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]+"
)
_LINE_BREAK = re.compile("[\x0b\x0c\x85\u2028\u2029\r\n]+")
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" *\n[ \n]*")
_MARKUP = re.compile(
    r"<(?:"
    r"/[A-Za-z][\w:.-]{0,63}\s{0,16}"  # closing tag
    r"|[A-Za-z][\w:.-]{0,63}"  # opening tag with attributes
    r"(?:\s{1,16}[\w:.-]{1,64}\s{0,4}=\s{0,4}(?:\"[^\"<>]{0,256}\"|'[^'<>]{0,256}')){0,16}\s{0,16}/?"
    r"|!--[^<>]{0,512}--"  # comment
    r"|\?[A-Za-z][^<>?]{0,256}\?"  # processing instruction
    r")>"
)
_MAY_HOLD_MARKS = re.compile("[^\x00-\u02ff\u3001-\u3098\u309b-\u312f\u3400-\u9fff\uac00-\ud7a3\uff00-\uffef]{5,}")


def clean_text(text: str) -> str:
    """Text without the characters and tags listed above, in NFC, blanks collapsed, lines separated by one newline.

    Idempotent. A tag becomes a blank, so that words on both sides stay apart.
    """
    text = _DROPPED.sub("", _LINE_BREAK.sub("\n", text))
    text = _MARKUP.sub(" ", text)
    text = unicodedata.normalize("NFC", _MAY_HOLD_MARKS.sub(_limit_marks, text))
    text = _BLANK_LINES.sub("\n", _BLANKS.sub(" ", text))
    return text.strip()


def has_speech(text: str) -> bool:
    """Whether any letter, digit or ideograph is there to be spoken (emoji and punctuation alone are not)."""
    return any(character.isalnum() for character in text)


def _limit_marks(match: re.Match[str]) -> str:
    kept: list[str] = []
    marks = 0
    for character in match.group():
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MAX_MARKS:
            kept.append(character)
    return "".join(kept)
