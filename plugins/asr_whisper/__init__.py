"""Speech recognition with Whisper base (MIT) on faster-whisper: labels, consent phrases, examinations. No network."""

from __future__ import annotations

from appliance_plugins.asr_whisper.transcriber import WhisperTranscriber

from appliance.hookspecs import RegisterTranscriber, hookimpl

VOICED_API = 1


@hookimpl
def register_transcribers(register: RegisterTranscriber) -> None:
    register("whisper", WhisperTranscriber)
