"""The phone inventories of GPT-SoVITS, "gpt_sovits_v1" (322) and "gpt_sovits_v2" (732): a symbol's id is its index.

The order is part of every trained model: v1 is sorted by code point; v2 is v1, then the two Japanese pitch marks, then
Korean, then Cantonese, each sorted in itself. Symbols are built from their parts here; tests compare with the lists of
the original.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

GPT_SOVITS_V1 = "gpt_sovits_v1"
GPT_SOVITS_V2 = "gpt_sovits_v2"
UNKNOWN = "UNK"

MARKS = frozenset("!?…,.-")
_PAUSES = "_ SP SP2 SP3 UNK"

# Mandarin: AA, EE, OO stand where there is no initial; E and En are the finals of ye and yuan, i0 and ir of si, shi
_PINYIN_INITIALS = "AA EE OO b c ch d f g h j k l m n p q r s sh t w x y z zh"
_PINYIN_FINALS = (
    "E En a ai an ang ao e ei en eng er i i0 ia ian iang iao ie in ing iong ir iu o ong ou u ua uai uan uang ui un uo "
    "v van ve vn"
)
_JAPANESE = "I N U a b by ch cl d dy e f g gy h hy i j k ky m my n ny o p py r ry s sh t ts u v w y z"
_ENGLISH = (
    "AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER ER0 ER1 ER2 "
    "EY0 EY1 EY2 F G HH IH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH "
    "UH0 UH1 UH2 UW0 UW1 UW2 V W Y Z ZH"
)
_KOREAN = "ㄱ ㄲ ㄴ ㄷ ㄸ ㄹ ㅁ ㅂ ㅃ ㅅ ㅆ ㅇ ㅈ ㅉ ㅊ ㅋ ㅌ ㅍ ㅎ ㅏ ㅐ ㅓ ㅔ ㅗ ㅜ ㅡ ㅣ 停 空"
_JYUTPING_UNTONED = "a aa ai ak au b c d e f g gw h j k kw l m n ng o oi ok on ou p s t uk w z"
_JYUTPING_FINALS = (
    "a aa aai aak aam aan aang aap aat aau ai ak am an ang ap at au e ei ek eng eoi eon eot g i ik im in ing ip it iu "
    "k m n o oe oek oeng oi ok on ong ot ou p t u ui uk un ung ut yu yun yut"
)


def _with_tones(finals: str, tones: str) -> list[str]:
    return [final + tone for final in finals.split() for tone in tones]


def _symbols_v1() -> tuple[str, ...]:
    plain = " ".join((_PAUSES, _PINYIN_INITIALS, _JAPANESE, _ENGLISH)).split()
    return tuple(sorted({*plain, *MARKS, *_with_tones(_PINYIN_FINALS, "12345")}))


def _symbols_v2() -> tuple[str, ...]:
    cantonese = {f"Y{part}" for part in (*_JYUTPING_UNTONED.split(), *_with_tones(_JYUTPING_FINALS, "123456"))}
    return (*_symbols_v1(), "[", "]", *sorted(_KOREAN.split()), *sorted(cantonese))


GPT_SOVITS_SYMBOLS: dict[str, tuple[str, ...]] = {GPT_SOVITS_V1: _symbols_v1(), GPT_SOVITS_V2: _symbols_v2()}
_IDS = {name: {s: i for i, s in enumerate(symbols)} for name, symbols in GPT_SOVITS_SYMBOLS.items()}


def phone_ids(phones: Iterable[str], inventory: str) -> list[int]:
    """Ids of `phones` in "gpt_sovits_v1" or "gpt_sovits_v2"; KeyError for a phone that the inventory has not."""
    ids = _IDS[inventory]
    return [ids[phone] for phone in phones]


def known_phones(phones: Sequence[str], inventory: str) -> tuple[str, ...]:
    """The same phones, those outside the inventory replaced by UNK: what the models were trained with."""
    ids = _IDS[inventory]
    return tuple(phone if phone in ids else UNKNOWN for phone in phones)
