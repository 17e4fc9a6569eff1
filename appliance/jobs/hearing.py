"""What a recogniser makes of a sentence, held against what was to be said."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from appliance.audio.transcripts import character_error_rate, misheard_share
from appliance.audio.word_faults import WordFaults, find_faults
from appliance.contracts import Audio, Transcriber
from appliance.errors import VoicedError
from appliance.jobs.sentences import Sentence
from appliance.plugin_manager import Plugins

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """What was heard, and the share of it that is wrong: of words in English, of toneless syllables in Chinese."""

    text: str
    error: float  # 0 = all right; may exceed 1
    character_error: float
    faults: WordFaults


def hear(transcriber: Transcriber, audio: Audio, sentence: Sentence) -> Heard:
    """Let the recogniser listen; for a mixed sentence, or one of no known language, it finds that by itself."""
    language = sentence.language if sentence.language in transcriber.languages else None
    heard, said = transcriber.transcribe(audio, language).text, sentence.text
    error = misheard_share(said, heard, sentence.language)
    return Heard(heard, error, character_error_rate(said, heard), find_faults(said, heard))


def load_transcriber(plugins: Plugins, name: str, threads: int, cache_dir: Path) -> Transcriber | None:
    """The recogniser, or None where there is none that works: an examination then leaves the verdict to a person."""
    factory = plugins.transcribers.get(name)
    if factory is None:
        return None
    transcriber = factory()
    if not transcriber.probe().usable:
        return None
    try:
        transcriber.load(threads, cache_dir)
    except VoicedError:
        log.exception("the recogniser %s did not load", name)
        return None
    return transcriber
