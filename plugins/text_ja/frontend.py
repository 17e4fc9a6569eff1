"""The Japanese front end: OpenJTalk reads (words, numbers, particles), the tables spell."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from appliance_plugins.text_ja.kokoro_symbols import spell
from appliance_plugins.text_ja.prosody import read_prosody

from appliance.text.frontends import KOKORO, LibraryFrontend, Reading, Spoken
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V1, GPT_SOVITS_V2

_LONGEST_RUN = 400  # characters handed to OpenJTalk at once: its line buffer is fixed
_MARKS = {
    "。": ". ", "、": ", ", "，": ", ", "．": ". ", "？": "? ", "！": "! ", "：": ": ", "；": "; ", "…": "… ",
    "—": "— ", "―": "— ", "～": "— ", "〜": "— ", "「": "“", "」": "” ", "『": "“", "』": "” ", "“": "“",
    "”": "” ", "（": "(", "）": ") ", "【": "(", "】": ") ", "《": "“", "》": "” ", ".": ". ", ",": ", ",
    "?": "? ", "!": "! ", ":": ": ", ";": "; ", "(": "(", ")": ") ",
}  # fmt: skip
_UNREADABLE = re.compile(
    r"[^0-9A-Za-z０-９Ａ-Ｚａ-ｚぁ-ゖゝゞァ-ヺーヽヾ々〆〇㐀-䶿一-鿿豈-﫿。、，．？！：；…—―～〜「」『』“”（）【】《》.,?!:;()%％+\-−×÷=&@/・¥￥$€£℃°㎏㎞㎝㎡\s]+"
)
_TO = re.compile(r"(?<=\d)\s?[~〜～]\s?(?=\d)")
_PIECE = re.compile(rf"[^。！？!?\n]{{1,{_LONGEST_RUN}}}[。！？!?\n]*|[。！？!?\n]+")


class JapaneseFrontend(LibraryFrontend):
    """Standard Japanese. One word span per OpenJTalk word; pitch is marked where the inventory has marks for it."""

    language = "ja"
    inventories = (KOKORO, GPT_SOVITS_V1, GPT_SOVITS_V2)
    library = "pyopenjtalk-plus"

    def load_library(self) -> Any:
        """OpenJTalk with the dictionary of its wheel; nothing is downloaded."""
        import pyopenjtalk

        pyopenjtalk.run_frontend("準備", use_sudachi_kanji_yomi=False)
        return pyopenjtalk

    def read(self, library: Any, text: str, inventory: str) -> Reading:
        if inventory != KOKORO:
            reading: Reading = read_prosody(library, text, inventory)
            return reading
        written = _normalise(text)
        nodes = [
            node
            for piece in _PIECE.findall(written)
            for node in library.run_frontend(piece, use_sudachi_kanji_yomi=False)
        ]
        units = [_spell_word(word) for word in _join_words(nodes)]
        return Reading("".join(unit.text for unit in units), _end_at_last_phone(units))


def _normalise(text: str) -> str:
    text = unicodedata.normalize("NFKC", text.replace("…", "\x00")).replace("\x00", "…")
    text = re.sub(r"…+|\.{3,}|・{3,}", "…", text)
    return _UNREADABLE.sub(" ", _TO.sub("から", text))


def _join_words(nodes: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """OpenJTalk's morphemes as the words a reader does not break: endings and suffixes belong to what they end."""
    words: list[list[dict[str, Any]]] = []
    for node in nodes:
        before = words[-1][-1] if words else None
        if before is not None and _is_ending(node, before):
            words[-1].append(node)
        else:
            words.append([node])
    return words


def _is_ending(node: dict[str, Any], before: dict[str, Any]) -> bool:
    if node["pos"] == "助動詞" or node["pos_group1"] == "接続助詞":
        return str(before["pos"]) in ("動詞", "助動詞", "形容詞") or str(before["pos_group1"]) == "接続助詞"
    return str(node["pos_group1"]) == "接尾" and before["pos"] == "名詞"


def _spell_word(word: list[dict[str, Any]]) -> Spoken:
    surface = "".join(str(node["string"]) for node in word)
    surface = surface if surface in _MARKS else unicodedata.normalize("NFKC", surface)
    if word[0]["pos"] == "記号":
        return Spoken(surface, tuple(_MARKS.get(surface, "")))
    phones = spell("".join(str(node["pron"]) for node in word).replace("’", "").replace("'", ""))
    return Spoken(surface, tuple(phones + " ") if phones else ())


def _end_at_last_phone(units: list[Spoken]) -> list[Spoken]:
    """No blank before a mark or at the end."""
    tidied: list[Spoken] = []
    following = ""
    for unit in reversed(units):
        is_glued = not following or following in ".,?!:;…—”)"
        has_blank = unit.phones[-1:] == (" ",)
        tidied.append(Spoken(unit.text, unit.phones[:-1]) if is_glued and has_blank else unit)
        following = unit.phones[0] if unit.phones else following
    return tidied[::-1]
