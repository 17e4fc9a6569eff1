"""Opening a sound device for playing, with every way it can be absent as a state that has a name.

PortAudio reads the list of devices once per process: who wants to see a new device needs a new process. So nothing here
retries; the player process ends and its supervisor starts another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.errors import Unavailable

LATENCY_S = 0.08  # what is asked of the device: enough for a busy box, little enough to stop within 200 ms
FALLBACK_RATES = (48_000, 44_100)


@dataclass(frozen=True)
class OutputRequest:
    device: str  # name, part of a name, or index; empty: the default of the system
    sample_rate: int  # Hz, wanted; the device may want another


@dataclass(frozen=True)
class Output:
    """An open, running output."""

    stream: Any  # sounddevice.OutputStream, float32
    name: str
    sample_rate: int
    channels: int
    latency_s: float


def open_output(request: OutputRequest) -> Output:
    """Open and start the device.

    Raises Unavailable: "portaudio_missing" (library), "sound_device_none" (the system has no output),
    "sound_device_unknown" (no output of that name), "sound_device_failed" (busy, refused, gone).
    """
    sound = _import_sounddevice()
    info = _find_device(sound, request.device)
    channels, rate = _choose_format(sound, info, request.sample_rate)
    try:
        stream = sound.OutputStream(
            device=info["index"], channels=channels, samplerate=rate, dtype="float32", latency=LATENCY_S
        )
        stream.start()
    except sound.PortAudioError as error:
        raise Unavailable("sound_device_failed", device=info["name"], detail=str(error)) from error
    return Output(stream, str(info["name"]), rate, channels, float(stream.latency))


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except (OSError, ImportError) as error:  # OSError: the wheel for Linux carries no PortAudio
        raise Unavailable("portaudio_missing", detail=str(error)) from error
    return sounddevice


def _find_device(sound: Any, wanted: str) -> dict[str, Any]:
    outputs = [info for info in sound.query_devices() if info["max_output_channels"] > 0]
    names = ", ".join(str(info["name"]) for info in outputs)
    try:
        index = int(wanted) if wanted.isdigit() else wanted or None
        return dict(sound.query_devices(index, "output"))
    except (ValueError, sound.PortAudioError) as error:
        if wanted:
            raise Unavailable("sound_device_unknown", device=wanted, known=names or "-") from error
        raise Unavailable("sound_device_none") from error


def _choose_format(sound: Any, info: dict[str, Any], wanted_rate: int) -> tuple[int, int]:
    """(channels, Hz): stereo before mono before all channels, the wanted rate before the device's own."""
    most = int(info["max_output_channels"])
    rates = dict.fromkeys((wanted_rate, int(info["default_samplerate"]), *FALLBACK_RATES))
    detail = ""
    for rate in rates:
        for channels in dict.fromkeys((min(2, most), 1, most)):
            try:
                sound.check_output_settings(info["index"], channels, "float32", None, rate)
            except sound.PortAudioError as error:
                detail = str(error)
            else:
                return channels, rate
    raise Unavailable("sound_device_failed", device=info["name"], detail=detail)
