"""Jyutping syllables -> the two symbols that GPT-SoVITS has for each, marked with Y against Mandarin's.

The split into an onset and a rest is the one of the training texts: some "onsets" are whole vowels (au2 is Ya... no
final of its own), and ng before a takes both letters with it.
"""

from __future__ import annotations

from appliance.text.gpt_sovits_symbols import MARKS

# the first that fits is the onset, so the order matters
_ORDER = (
    "aa aai aak aap aat aau ai au ap at ak a p b e ts t dz d kw k gw g f h l m ng n s y w c z j "
    "ong on ou oi ok o uk ung"
)
_ONSETS = _ORDER.split()


def spell(syllable: str) -> tuple[str, ...]:
    """("gwong2") -> ("Ygw", "Yong2"), (",") -> (","); () for what is neither."""
    if syllable in MARKS:
        return (syllable,)
    base, tone = (syllable[:-1], syllable[-1]) if syllable[-1:] in tuple("123456") else (syllable, "")
    onset = next((onset for onset in _ONSETS if base.startswith(onset)), "")
    if not onset or not tone:
        return ()
    if base.startswith("nga"):
        onset, rest = "ng", base[2:]
    else:
        rest = base[len(onset) :] or onset[-1]
    return f"Y{onset}", f"Y{rest}{tone}"
