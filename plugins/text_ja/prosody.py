"""Japanese for GPT-SoVITS: OpenJTalk's phones with marks for the pitch, each piece between two marks read on its own.

`[` pitch rises, `]` pitch falls, `#` border of an accent phrase (no symbol for it: UNK, as the voices were trained),
`_` pause. How labels become marks: Kurihara et al. 2021, "Prosodic features control by symbols as input of
sequence-to-sequence acoustic modeling for neural TTS".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from appliance_plugins.text_ja.accents import join_phrases, place_accents
from appliance_plugins.text_ja.morphs import read_morphs
from appliance_plugins.text_ja.numbers import speak_numbers

from appliance.text.frontends import Reading, Spoken
from appliance.text.gpt_sovits_symbols import known_phones

_LONGEST_RUN = 400  # characters handed to OpenJTalk at once: its line buffer is fixed
_READABLE = "A-Za-z0-9\u3005\u3040-\u30ff\u4e00-\u9fff\uff11-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d"
_PIECE = re.compile(rf"[{_READABLE}]{{1,{_LONGEST_RUN}}}|.", re.DOTALL)
_PERCENT = re.compile("[％%]")
_REPEATED = re.compile(r"([,.!?…-])[,.!?…-]+")
_MARKS = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",", "、": ",",
}  # fmt: skip

_PHONE = re.compile(r"-(.*?)\+")
_ACCENT = re.compile(r"/A:(-?\d+)\+(\d+)\+(\d+)/")
_LENGTH = re.compile(r"/F:(\d+)_")
_NOWHERE = -50
_MORA_ENDS = frozenset(("a", "i", "u", "e", "o", "N", "cl"))


class Label(NamedTuple):
    """What is needed of one full-context label; positions in moras, -50 where there are none."""

    phone: str
    to_accent: int  # A1: distance from the accent nucleus
    from_start: int  # A2: place in the accent phrase, from 1
    from_end: int  # A3: the same counted from its end
    length: int  # F1: moras of the accent phrase


def read_prosody(library: Any, text: str, inventory: str) -> Reading:
    """Text -> phones of a GPT-SoVITS inventory, one unit per word. `library` is pyopenjtalk."""
    normalized = _REPEATED.sub(r"\1", text)
    units: list[Spoken] = []
    for piece in _PIECE.findall(_PERCENT.sub("パーセント", normalized).lower()):
        if re.match(f"[{_READABLE}]", piece):
            units += _read_piece(library, piece)
        elif piece != " ":
            units.append(Spoken(piece, (_MARKS.get(piece, piece),)))
    return Reading(normalized, [Spoken(unit.text, known_phones(unit.phones, inventory)) for unit in units])


def _read_piece(library: Any, piece: str) -> list[Spoken]:
    """With the rules of Open JTalk as it is: pyopenjtalk-plus has other ones, which the voices did not learn."""
    morphs = speak_numbers(read_morphs(library, piece))
    join_phrases(morphs)
    place_accents(morphs)
    labels = library.make_label([morph.as_features() for morph in morphs])
    moras = list(_join_moras(_mark_pitch([_parse(label) for label in labels])))
    if len(moras) != sum(morph.moras for morph in morphs):
        return [Spoken(piece, tuple(phone for mora in moras for phone in mora))]
    units = []
    start = 0
    for morph in morphs:
        end = start + morph.moras
        word = unicodedata.normalize("NFKC", morph.string)
        units.append(Spoken(word, tuple(phone for mora in moras[start:end] for phone in mora)))
        start = end
    return units


def _parse(label: str) -> Label:
    phone, accent, length = _PHONE.search(label), _ACCENT.search(label), _LENGTH.search(label)
    return Label(
        phone[1] if phone else "",
        *((int(accent[1]), int(accent[2]), int(accent[3])) if accent else (_NOWHERE,) * 3),
        int(length[1]) if length else _NOWHERE,
    )


def _mark_pitch(labels: list[Label]) -> Iterator[str]:
    """Phones and marks between the silences at both ends; devoiced vowels (capitals) as if they were voiced."""
    for label, following in pairwise(labels[1:]):
        if label.phone == "pau":
            yield "_"
            continue
        phone = label.phone.lower() if label.phone in "AEIOU" else label.phone
        yield phone
        if label.from_end == 1 and following.from_start == 1 and phone in _MORA_ENDS:
            yield "#"
        elif label.to_accent == 0 and following.from_start == label.from_start + 1 and label.from_start != label.length:
            yield "]"
        elif label.from_start == 1 and following.from_start == 2:
            yield "["


def _join_moras(phones: Iterator[str]) -> Iterator[list[str]]:
    """Phones up to a vowel, N or cl, with the marks and pauses behind it."""
    mora: list[str] = []
    is_complete = False
    for phone in phones:
        if is_complete and phone not in "[]#_":
            yield mora
            mora, is_complete = [], False
        mora.append(phone)
        is_complete = is_complete or phone in _MORA_ENDS
    if mora:
        yield mora
