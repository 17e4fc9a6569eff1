"""The demo's ears: the recogniser of the box writes down what each sentence sounds like, and errors are counted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.audio.files import mono_at, read_audio
from appliance.audio.transcripts import misheard_share, word_error_rate
from appliance.contracts import Transcriber
from appliance.errors import Unavailable
from appliance.plugin_manager import load_plugins

if TYPE_CHECKING:
    from appliance.cli.demo import DemoRecord
    from appliance.settings import Settings

LISTEN_RATE = 16_000  # Hz


def judge(settings: Settings, record: DemoRecord, folder: Path) -> None:
    """Fill in what was heard of every sentence and how much of it was wrong, and `label_error` of the recording.

    Raises Unavailable when the box has no recogniser.
    """
    if record.recording:
        record.label_error = word_error_rate(record.true_transcript, record.recording["transcript"])
    transcriber = _load_transcriber(settings)
    for spoken in record.spoken:
        language = spoken.language if spoken.language in {"zh", "en", "ja"} else None
        audio = mono_at(read_audio(folder / spoken.file), LISTEN_RATE)
        spoken.heard = transcriber.transcribe(audio, language).text
        spoken.errors = error_shares(spoken.text, spoken.heard, spoken.language)


def error_shares(said: str, heard: str, language: str) -> dict[str, float]:
    """Shares of misheard units under the name of the measure: words for English, toneless syllables for Chinese."""
    name = {"en": "wer", "zh": "pinyin"}.get(language, "mixed")
    return {name: misheard_share(said, heard, language)}


def _load_transcriber(settings: Settings) -> Transcriber:
    plugins = load_plugins(settings.plugins, settings.state_dir / "plugins")
    name = settings.engine.transcriber
    if name not in plugins.transcribers:
        raise Unavailable("transcriber_missing", transcriber=name)
    transcriber = plugins.transcribers[name]()
    transcriber.load(len(os.sched_getaffinity(0)), settings.state_dir / "cache")
    return transcriber
