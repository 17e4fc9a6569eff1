"""Opening a sound device for playing, with every way it can be absent as a state that has a name.

PortAudio reads the list of devices once; `open_output` can have it read again, but never beside an open stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from appliance.errors import Unavailable

LATENCY_S = 0.08  # what is asked of the device: enough for a busy box, little enough to stop within 200 ms
FALLBACK_RATES = (48_000, 44_100)


@dataclass(frozen=True)
class OutputRequest:
    devices: tuple[str, ...]  # in order of preference: name, part of a name, or index; "": the default of the system
    sample_rate: int  # Hz, wanted; the device may want another
    channels: tuple[int, ...] = ()  # of the device, from 1; empty: stereo, else what there is, all of them


@dataclass(frozen=True)
class Output:
    """An open, running output."""

    stream: Any  # sounddevice.OutputStream, float32
    name: str
    wanted: str  # as the request calls it
    sample_rate: int
    channels: int
    latency_s: float


def open_output(request: OutputRequest, *, has_been_open: bool = False) -> Output:
    """Open and start the first device of the list that can be; `has_been_open`: one of this process was lost.

    Raises Unavailable as the first device does: "portaudio_missing" (library), "sound_device_none" (the system has no
    output), "sound_device_unknown" (no output of that name), "sound_channel_missing", "sound_device_failed" (busy,
    refused, gone).
    """
    sound = _import_sounddevice()
    if has_been_open:
        sound._terminate()
        sound._initialize()
    first: Unavailable | None = None
    for device in request.devices:
        try:
            return _open(sound, request, device)
        except Unavailable as error:
            first = first or error
    raise first or Unavailable("sound_device_none")


def _open(sound: Any, request: OutputRequest, device: str) -> Output:
    info = _find_device(sound, device)
    channels, rate = _choose_format(sound, info, request)
    try:
        stream = sound.OutputStream(
            device=info["index"], channels=channels, samplerate=rate, dtype="float32", latency=LATENCY_S
        )
        stream.start()
    except sound.PortAudioError as error:
        raise Unavailable("sound_device_failed", device=info["name"], detail=str(error)) from error
    return Output(stream, str(info["name"]), device, rate, channels, float(stream.latency))


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


def _choose_format(sound: Any, info: dict[str, Any], request: OutputRequest) -> tuple[int, int]:
    """(channels, Hz): stereo before mono before all channels, the wanted rate before the device's own."""
    most = int(info["max_output_channels"])
    wanted = _wanted_channels(info, request.channels, most)
    rates = dict.fromkeys((request.sample_rate, int(info["default_samplerate"]), *FALLBACK_RATES))
    detail = ""
    for rate in rates:
        for channels in wanted:
            try:
                sound.check_output_settings(info["index"], channels, "float32", None, rate)
            except sound.PortAudioError as error:
                detail = str(error)
            else:
                return channels, rate
    raise Unavailable("sound_device_failed", device=info["name"], detail=detail)


def _wanted_channels(info: dict[str, Any], named: Sequence[int], most: int) -> Sequence[int]:
    if not named:
        return tuple(dict.fromkeys((min(2, most), 1, most)))
    if max(named) > most:
        raise Unavailable("sound_channel_missing", device=info["name"], channel=max(named), channels=most)
    return tuple(dict.fromkeys((max(2, *named) if most > 1 else 1, most)))
