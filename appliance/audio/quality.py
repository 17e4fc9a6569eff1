"""The verdict on a recording: good enough to clone from, and if not, what to do about it.

Every rule reads one figure of `measures` and gives at most one reason; reasons are catalogue codes whose remedy tells
the reader why to read again. Stable keys of `measures`: duration_s, sample_rate, channels, peak_dbfs, clipped_share,
snr_db, speech_share, loudness_lufs, dnsmos {sig, bak, ovrl}, music_share, voice_split (the least cosine between two
voices in it), and what tells how they were won: format, speech_s, speech_dbfs, vad. A figure that could not be measured
is null.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appliance.audio import dnsmos, loudness, noise
from appliance.audio.files import DecodedAudio, Frames, read_audio, to_mono
from appliance.audio.music import music_share
from appliance.audio.speakers import voice_split
from appliance.audio.speech_activity import SpeechActivity, find_speech
from appliance.contracts import Audio, JsonDict, QualityReport, Reason
from appliance.errors import Corrupt, VoicedError
from appliance.settings import IntakeSettings

MEASURES = (
    "duration_s",
    "sample_rate",
    "channels",
    "peak_dbfs",
    "clipped_share",
    "snr_db",
    "speech_share",
    "loudness_lufs",
    "dnsmos",
)
GOOD_SAMPLE_RATE = 24_000  # Hz; engines of this box speak at it
LOSSY = frozenset({"mp3", "aac", "ogg", "mp4", "webm"})
SILENT_PEAK_DBFS = -50.0
MUSIC_LEAST_S = 0.5  # a vowel that is held is a steady tone, too
QUIET_SPEECH_DBFS = -45.0
SAME_CHANNELS_DB = -40.0  # difference below the sum: one microphone written twice


def check_file(path: Path, limits: IntakeSettings) -> QualityReport:
    """Decode and judge; a file that cannot be decoded is a refused recording, not an exception.

    Raises OSError only (no such file, no right to read it).
    """
    try:
        decoded = read_audio(path, max_duration_s=limits.max_duration_s)
    except VoicedError as error:
        return _refused(error)
    return check_recording(decoded, limits)


def _refused(error: VoicedError) -> QualityReport:
    measures: JsonDict = dict.fromkeys(MEASURES)
    known = {key: error.measured[key] for key in measures if key in error.measured}
    return QualityReport(False, (Reason(error.code, dict(error.measured)),), (), measures | known)


def check_recording(decoded: DecodedAudio, limits: IntakeSettings) -> QualityReport:
    """Judge a decoded recording against the limits of the intake."""
    audio = Audio(to_mono(decoded.samples), decoded.sample_rate)
    reasons: list[Reason] = []
    warnings: list[Reason] = []
    measures = _measure_file(decoded, audio)
    _judge_format(decoded, limits, reasons, warnings)
    _judge_level(measures, limits, reasons)
    if measures["peak_dbfs"] <= SILENT_PEAK_DBFS:
        reasons.append(Reason("recording_silent", {"peak_dbfs": measures["peak_dbfs"]}))
        return QualityReport(False, tuple(reasons), tuple(warnings), measures)
    activity = find_speech(audio)
    measures |= _measure_speech(audio, activity)
    _judge_speech(measures, limits, reasons, warnings)
    _judge_company(audio, limits, measures, reasons)
    _judge_rating(audio, limits, measures, reasons, warnings)
    return QualityReport(not reasons, tuple(reasons), tuple(warnings), measures)


def _measure_file(decoded: DecodedAudio, audio: Audio) -> JsonDict:
    peak = loudness.decibels(float(np.max(np.abs(decoded.samples))))
    return {
        "duration_s": round(decoded.duration_s, 3),
        "sample_rate": decoded.sample_rate,
        "channels": decoded.channels,
        "format": decoded.format,
        "peak_dbfs": round(peak, 2),
        "clipped_share": max(noise.clipped_share(decoded.samples[:, c]) for c in range(decoded.channels)),
        "loudness_lufs": round(loudness.integrated_lufs(audio.samples, audio.sample_rate), 2),
        "snr_db": None,
        "speech_share": 0.0,
        "speech_s": 0.0,
        "speech_dbfs": None,
        "vad": None,
        "dnsmos": None,
        "music_share": None,
        "voice_split": None,
    }


def _measure_speech(audio: Audio, activity: SpeechActivity) -> JsonDict:
    powers = noise.speech_and_noise_power(audio, activity)
    ratio = noise.snr_db(audio, activity)
    return {
        "snr_db": None if ratio is None else round(ratio, 2),
        "speech_share": round(activity.share, 3),
        "speech_s": round(activity.speech_s, 3),
        "speech_dbfs": None if powers is None else round(loudness.decibels(powers[0] ** 0.5), 2),
        "vad": activity.method,
    }


def _judge_format(decoded: DecodedAudio, limits: IntakeSettings, reasons: list[Reason], warnings: list[Reason]) -> None:
    if decoded.channels > 1:
        difference = channel_difference_db(decoded.samples)
        figures = {"channels": decoded.channels, "difference_db": round(difference, 1)}
        if difference <= SAME_CHANNELS_DB:
            warnings.append(Reason("channels_identical", figures))
        else:
            reasons.append(Reason("not_mono", figures))
    if decoded.format in LOSSY:
        warnings.append(Reason("lossy_format", {"format": decoded.format}))
    if decoded.sample_rate < limits.min_sample_rate:
        figures = {"sample_rate": decoded.sample_rate, "minimum": limits.min_sample_rate}
        reasons.append(Reason("sample_rate_too_low", figures))
    elif decoded.sample_rate < GOOD_SAMPLE_RATE:
        figures = {"sample_rate": decoded.sample_rate, "target": GOOD_SAMPLE_RATE}
        warnings.append(Reason("sample_rate_upsampled", figures))
    if decoded.duration_s < limits.min_duration_s:
        lengths = {"duration_s": round(decoded.duration_s, 3), "minimum_s": limits.min_duration_s}
        reasons.append(Reason("recording_too_short", lengths))
    elif decoded.duration_s > limits.max_duration_s:
        lengths = {"duration_s": round(decoded.duration_s, 3), "limit_s": limits.max_duration_s}
        reasons.append(Reason("audio_too_long", lengths))


def channel_difference_db(samples: Frames) -> float:
    """Level of the difference of two channels relative to their sum, dB."""
    left, right = samples[:, 0].astype(np.float64), samples[:, 1].astype(np.float64)
    difference, total = float(np.mean((left - right) ** 2)), float(np.mean((left + right) ** 2))
    if total == 0:
        return 0.0 if difference > 0 else loudness.FLOOR_DB
    return loudness.decibels((difference / total) ** 0.5)


def _judge_level(measures: JsonDict, limits: IntakeSettings, reasons: list[Reason]) -> None:
    if measures["clipped_share"] > limits.max_clipped_share:
        figures = {
            "clipped_share": measures["clipped_share"],
            "clipped_percent": 100.0 * measures["clipped_share"],
            "limit_percent": 100.0 * limits.max_clipped_share,
        }
        reasons.append(Reason("recording_clipped", figures))


def _judge_speech(measures: JsonDict, limits: IntakeSettings, reasons: list[Reason], warnings: list[Reason]) -> None:
    if measures["vad"] != "silero":
        warnings.append(Reason("vad_unavailable"))
    if measures["speech_share"] < limits.min_speech_share:
        figures = {
            "speech_share": measures["speech_share"],
            "speech_percent": 100.0 * measures["speech_share"],
            "minimum_percent": 100.0 * limits.min_speech_share,
        }
        reasons.append(Reason("too_little_speech", figures))
    if measures["snr_db"] is not None and measures["snr_db"] < limits.min_snr_db:
        reasons.append(Reason("snr_too_low", {"snr_db": measures["snr_db"], "minimum_db": limits.min_snr_db}))
    if measures["speech_dbfs"] is not None and measures["speech_dbfs"] < QUIET_SPEECH_DBFS:
        warnings.append(Reason("recording_quiet", {"speech_dbfs": measures["speech_dbfs"]}))


def _judge_company(audio: Audio, limits: IntakeSettings, measures: JsonDict, reasons: list[Reason]) -> None:
    """Music, and a second person."""
    measures["music_share"] = round(music_share(audio), 3)
    tones_s = measures["music_share"] * audio.duration_s
    if measures["music_share"] > limits.max_music_share and tones_s > MUSIC_LEAST_S:
        figures = {
            "music_percent": 100.0 * measures["music_share"],
            "limit_percent": 100.0 * limits.max_music_share,
        }
        reasons.append(Reason("music_suspected", figures))
        return  # the voices of an orchestra are not told apart
    split = voice_split(audio)
    measures["voice_split"] = None if split is None else round(split, 3)
    if split is not None and split < limits.min_voice_split:
        figures = {"cosine": round(split, 3), "minimum": limits.min_voice_split}
        reasons.append(Reason("second_speaker_suspected", figures))


def _judge_rating(
    audio: Audio, limits: IntakeSettings, measures: JsonDict, reasons: list[Reason], warnings: list[Reason]
) -> None:
    try:
        rating = dnsmos.rate(audio)
    except Corrupt as error:
        warnings.append(Reason(error.code, dict(error.measured)))
        return
    if rating is None:
        warnings.append(Reason("dnsmos_unavailable"))
        return
    measures["dnsmos"] = rating.as_json()
    if rating.ovrl < limits.min_dnsmos:
        reasons.append(Reason("dnsmos_too_low", {"ovrl": rating.ovrl, "minimum": limits.min_dnsmos}))
