"""What a recogniser makes of a sentence, held against what was to be said."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.audio.transcripts import misheard_share
from appliance.contracts import Audio, Transcriber
from appliance.jobs.sentences import MIXED, Sentence


@dataclass(frozen=True)
class Heard:
    """What was heard, and the share of it that is wrong: of words in English, of toneless syllables in Chinese."""

    text: str
    error: float  # 0 = all right; may exceed 1


def hear(transcriber: Transcriber, audio: Audio, sentence: Sentence) -> Heard:
    """Let the recogniser listen; for a mixed sentence it finds the language by itself."""
    language = None if sentence.language == MIXED else sentence.language
    heard = transcriber.transcribe(audio, language).text
    return Heard(heard, misheard_share(sentence.text, heard, sentence.language))
