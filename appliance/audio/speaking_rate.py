"""How fast somebody speaks: syllables per second of speech, pauses left out."""

from __future__ import annotations

import re

from appliance.audio.speech_activity import find_speech
from appliance.audio.transcripts import normalized_words
from appliance.contracts import Audio

_VOWELS = re.compile("[aeiouy]+")
_SHORTEST_S = 0.3


def count_syllables(text: str) -> int:
    """A Chinese character is one; of an English word its groups of vowels, without a silent e at the end."""
    return sum(_syllables_of(word) for word in normalized_words(text))


def _syllables_of(word: str) -> int:
    if not word.isascii():
        return len(word)
    silent = word.endswith("e") and not word.endswith(("le", "ee")) and len(word) > 2
    return max(1, len(_VOWELS.findall(word)) - silent)


def speaking_rate(audio: Audio, text: str) -> float | None:
    """Syllables per second in which somebody speaks; None where there is next to no speech or no text."""
    seconds, syllables = find_speech(audio).speech_s, count_syllables(text)
    return syllables / seconds if seconds >= _SHORTEST_S and syllables else None
