"""The player: a child process that owns the sound device. `python -m appliance.audio.player --control-fd N`.

It decides nothing: what to play, when and how loud comes over the control socket as frames (`appliance.framing`), and
what happened goes back the same way. When the socket closes, the player falls silent and ends.

Orders                                                   Reports
`play`    id, sample_rate, gain, start_s                 `device`    state open | absent | error, code, measured …
`pcm`     id; payload: mono float32, little endian       `started`   id
`end`     id: no more samples will come                  `position`  id, position_s (heard so far), buffered_s
`music`   id, path, gain, start_s: a file, under speech  `finished`  id, outcome played | stopped, position_s, underruns
`stop`    id, or null for all; fade_s                    `alive`     every half second, with what was written so far
`volume`  value (amplitude factor 0..1)                  `refused`   an order that made no sense, and why
                                                         `lost`      a device went away: code, measured

A device that goes away is replaced by the next of the list that opens at the same rate, and what was being said goes on
there; when there is none, the player says so and ends.

The device gets silence between the sounds: amplifiers and HDMI sinks that fall asleep swallow the first syllable, and
an unplugged device is noticed at once. Writing blocks; no callback runs Python in the realtime thread.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.audio.control_line import ControlLine, Report
from appliance.audio.feeding import feed_file
from appliance.audio.mixing import MUSIC, SPEECH, Ducking, Mixer, Track
from appliance.audio.output import Output, OutputRequest, open_output
from appliance.contracts import Samples
from appliance.errors import Unavailable
from appliance.framing import FramingError, read_frame

BLOCK_S = 0.02
FADE_S = 0.025
REPORT_S = 0.1  # positions
ALIVE_S = 0.5
LEAD_S = 0.05  # how far beyond its own latency a device may be ahead of the clock (null and network sinks never block)
LAG_S = 0.25  # further behind than this, the clock is set anew instead of catching up in a burst
GOODBYE_S = 2.0  # a player without a parent is gone after this, whatever the device does
MAX_BUFFERED_S = 60.0
MAX_TRACKS = 32
MOST_MUSIC_GAIN = 4.0  # quiet files are raised to the loudness of the others

EXIT_PARENT_GONE = 0
EXIT_NO_DEVICE = 3
EXIT_DEVICE_LOST = 4


@dataclass(frozen=True)
class Manner:
    """How the output sounds, apart from the device."""

    volume: float = 1.0
    delay_s: float = 0.0
    ducking: Ducking = field(default_factory=Ducking)


class OrderError(ValueError):
    """An order that makes no sense; it is refused and reported, the player goes on."""


class Player:
    """Carries out orders (one thread) and writes blocks to the device (another); the lock guards the mixer."""

    def __init__(self, output: Output, request: OutputRequest, manner: Manner, line: ControlLine) -> None:
        self._output = output
        self._request = request
        self._line = line
        self._lock = threading.Lock()
        self._mixer = Mixer(output.sample_rate, manner.volume, manner.ducking, manner.delay_s)
        self._block = round(BLOCK_S * output.sample_rate)
        self._delay_s = manner.delay_s
        self._recent: deque[Samples] = deque(maxlen=self._lead_blocks)  # written, perhaps not heard
        self._ending: list[tuple[int, Report]] = []  # (blocks until it has left the device, what to report then)
        self._underruns = 0
        self._underruns_at: dict[str, int] = {}  # count when each track began
        self.is_parent_gone = threading.Event()

    @property
    def _lead_s(self) -> float:
        return self._output.latency_s + LEAD_S

    @property
    def _lead_blocks(self) -> int:
        return int(self._lead_s / BLOCK_S) + 1

    # ------------------------------------------------------------ orders

    def obey(self, header: dict[str, Any], payload: bytes) -> None:
        """Carry out one order. Raises OrderError."""
        orders: dict[str, Callable[[dict[str, Any], bytes], None]] = {
            "play": self._play,
            "pcm": self._feed,
            "end": self._end,
            "music": self._play_music,
            "stop": self._stop,
            "volume": self._set_volume,
        }
        try:
            order = orders[header["op"]]
            order(header, payload)
        except (KeyError, TypeError, ValueError) as error:
            raise OrderError(f"{type(error).__name__}: {error}") from error

    def _play(self, header: dict[str, Any], _payload: bytes) -> None:
        rate = int(header["sample_rate"])
        if not 4_000 <= rate <= 384_000:
            raise OrderError(f"sample rate {rate}")
        self._add(header, rate, SPEECH)

    def _play_music(self, header: dict[str, Any], _payload: bytes) -> None:
        path = Path(str(header["path"]))

        def feed() -> None:
            feed_file(path, float(header.get("start_s", 0.0)), track, self._lock)

        track = self._add(header, self._mixer.sample_rate, MUSIC)
        threading.Thread(target=feed, name="music", daemon=True).start()

    def _add(self, header: dict[str, Any], rate: int, role: str) -> Track:
        gain, start_s = float(header.get("gain", 1.0)), float(header.get("start_s", 0.0))
        most = MOST_MUSIC_GAIN if role == MUSIC else 1.0
        if not 0.0 <= gain <= most or not 0.0 <= start_s < 86_400:
            raise OrderError(f"gain {gain}, start {start_s}")
        device_rate = self._mixer.sample_rate
        track = Track(str(header["id"]), rate, device_rate, gain, role, round(start_s * device_rate))
        with self._lock:
            if track.id in self._mixer.tracks or len(self._mixer.tracks) >= MAX_TRACKS:
                raise OrderError(f"{track.id} plays already, or {MAX_TRACKS} others do")
            self._mixer.tracks[track.id] = track
            self._underruns_at[track.id] = self._underruns
        return track

    def _feed(self, header: dict[str, Any], payload: bytes) -> None:
        track = self._mixer.tracks.get(str(header["id"]))
        if track is None or track.is_ended:
            return  # stopped a moment ago; its last chunks were on the way
        samples = track.convert(np.frombuffer(payload, "<f4"))
        with self._lock:
            if track.buffered + len(samples) > MAX_BUFFERED_S * self._mixer.sample_rate:
                raise OrderError(f"{track.id}: more than {MAX_BUFFERED_S} s ahead")
            track.feed(samples)

    def _end(self, header: dict[str, Any], _payload: bytes) -> None:
        track = self._mixer.tracks.get(str(header["id"]))
        if track is None or track.is_ended:
            return
        rest = track.convert(np.zeros(0, np.float32), is_last=True)
        with self._lock:
            track.feed(rest)
            track.is_ended = True

    def _stop(self, header: dict[str, Any], _payload: bytes) -> None:
        wanted, fade_s = header["id"], float(header.get("fade_s", FADE_S))
        if not 0.0 <= fade_s <= 10.0:
            raise OrderError(f"fade {fade_s}")
        with self._lock:
            for track in self._mixer.tracks.values():
                if wanted in (None, track.id) and not track.is_stopping:
                    track.stop(round(fade_s * self._mixer.sample_rate))

    def _set_volume(self, header: dict[str, Any], _payload: bytes) -> None:
        value = float(header["value"])
        if not 0.0 <= value <= 1.0:
            raise OrderError(f"volume {value}")
        with self._lock:
            self._mixer.set_volume(value)

    # ------------------------------------------------------------ sound

    def run(self) -> None:
        """Write blocks until the parent is gone. Raises sounddevice.PortAudioError when no device is left."""
        from sounddevice import PortAudioError  # present: the device is open

        while not self._has_fallen_silent():
            try:
                self._write_on()
            except PortAudioError as error:
                self._change_device(error)

    def _write_on(self) -> None:
        started, written_s = time.monotonic(), 0.0
        next_alive = next_position = 0.0
        while not self._has_fallen_silent():
            now = time.monotonic()
            ahead_s = written_s - (now - started)
            if ahead_s > self._lead_s:
                time.sleep(ahead_s - self._lead_s)
            elif ahead_s < -LAG_S:
                started = now - written_s
            if self._write_block():
                self._underruns += 1
            written_s += BLOCK_S
            if now >= next_position:
                next_position = now + REPORT_S
                self._report_positions()
            if now >= next_alive:
                next_alive = now + ALIVE_S
                self._line.report("alive", written_s=round(written_s, 3), underruns=self._underruns)

    def _change_device(self, error: Exception) -> None:
        """Go on, on the next device that takes the same sound. Raises `error` when there is none."""
        lost = self._output
        self._line.report("lost", code="sound_device_lost", measured=_loss(lost, error))
        with suppress(Exception):  # of a device that is gone
            lost.stream.close()
        others = [device for device in self._request.devices if device != lost.wanted]
        try:
            request = replace(self._request, devices=(*others, lost.wanted), sample_rate=lost.sample_rate)
            output = open_output(request, has_been_open=True)
        except Unavailable:
            raise error from None
        if output.sample_rate != lost.sample_rate:
            raise error
        self._output = output
        report_output(self._line, output)
        for block in self._recent:  # what was on its way
            output.stream.write(self._spread(block))
        self._recent = deque(self._recent, maxlen=self._lead_blocks)

    def _has_fallen_silent(self) -> bool:
        if not self.is_parent_gone.is_set():
            return False
        self._stop({"id": None}, b"")
        return not self._mixer.tracks and not self._ending

    def _write_block(self) -> bool:
        """One block to the device; True when the device had run dry before it."""
        with self._lock:
            fresh = [track.id for track in self._mixer.tracks.values() if track.taken == 0 and track.buffered > 0]
            block = self._mixer.render(self._block)
            over = [track for track in self._mixer.tracks.values() if track.is_over]
            for track in over:
                del self._mixer.tracks[track.id]
        self._recent.append(block)
        has_run_dry = bool(self._output.stream.write(self._spread(block)))
        for track_id in fresh:
            self._line.report("started", id=track_id)
        self._count_down(over)
        return has_run_dry

    def _count_down(self, over: list[Track]) -> None:
        """Report tracks as finished once their last block has left the device, not when it was handed over."""
        self._ending = [(blocks - 1, report) for blocks, report in self._ending]
        for track in over:
            report = {
                "id": track.id,
                "outcome": "stopped" if track.is_stopping else "played",
                "position_s": round(track.position / track.device_rate, 6),
                "underruns": self._underruns - self._underruns_at.pop(track.id),
            }
            blocks = 0 if track.is_stopping else self._lead_blocks + int(self._delay_s / BLOCK_S)
            self._ending.append((blocks, report))
        for _, report in [entry for entry in self._ending if entry[0] <= 0]:
            self._line.report("finished", **report)
        self._ending = [entry for entry in self._ending if entry[0] > 0]

    def _report_positions(self) -> None:
        for track in list(self._mixer.tracks.values()):
            heard_s = max(0.0, track.position / track.device_rate - self._output.latency_s - self._delay_s)
            buffered_s = track.buffered / track.device_rate
            self._line.report("position", id=track.id, position_s=round(heard_s, 3), buffered_s=round(buffered_s, 3))

    def close(self) -> None:
        """Let go of the device."""
        self._output.stream.close()

    def _spread(self, block: Samples) -> Samples:
        """(n,) -> (n, channels): the same sound on every channel of the zone, silence on the others."""
        frames = np.zeros((len(block), self._output.channels), np.float32)
        named = [channel - 1 for channel in self._request.channels if channel <= self._output.channels]
        frames[:, named or slice(None)] = block[:, np.newaxis]
        return frames


def listen(sock: socket.socket, player: Player, line: ControlLine) -> None:
    """Take orders until the parent closes the line."""
    try:
        while True:
            header, payload = read_frame(sock)
            try:
                player.obey(header, payload)
            except OrderError as error:
                line.report("refused", op=header.get("op"), id=header.get("id"), detail=str(error))
    except (EOFError, FramingError, OSError):
        player.is_parent_gone.set()
    time.sleep(GOODBYE_S)
    os._exit(EXIT_PARENT_GONE)  # the device swallowed the writing thread: nobody is left who could end it


def serve(sock: socket.socket, request: OutputRequest, manner: Manner) -> int:
    """Own the device until the parent goes or the last device does; the exit status says which."""
    line = ControlLine(sock)
    try:
        output = open_output(request)
    except Unavailable as error:
        state = "error" if error.code == "sound_device_failed" else "absent"
        line.report("device", state=state, code=error.code, measured=error.measured)
        line.flush()
        return EXIT_NO_DEVICE
    report_output(line, output)
    player = Player(output, request, manner, line)
    threading.Thread(target=listen, args=(sock, player, line), name="orders", daemon=True).start()
    from sounddevice import PortAudioError  # present: the device is open

    try:
        player.run()
    except PortAudioError as error:
        line.report("device", state="error", code="sound_device_lost", measured=_loss(output, error))
        line.flush()
        return EXIT_DEVICE_LOST
    player.close()
    return EXIT_PARENT_GONE


def report_output(line: ControlLine, output: Output) -> None:
    """Tell the parent what is open now."""
    line.report(
        "device",
        state="open",
        device=output.name,
        wanted=output.wanted,
        sample_rate=output.sample_rate,
        channels=output.channels,
        latency_s=round(output.latency_s, 4),
    )


def _loss(output: Output, error: Exception) -> dict[str, str]:
    return {"device": output.name, "detail": str(error)}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the child process."""
    parser = argparse.ArgumentParser(prog="appliance.audio.player")
    parser.add_argument("--control-fd", type=int, required=True, help="our end of the socket to the parent")
    parser.add_argument("--device", action="append", help="name, part of a name, or index; again: the next best")
    parser.add_argument("--channel", action="append", type=int, default=[], help="of the device, from 1; again: more")
    parser.add_argument("--sample-rate", type=int, default=48_000)
    parser.add_argument("--volume", type=float, default=1.0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--duck-db", type=float, default=Ducking.depth_db)
    parser.add_argument("--media-role", default="", help="what sound servers are told that this is")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the line
    if args.media_role:
        os.environ["PULSE_PROP"] = f"media.role={args.media_role}"
        os.environ["PIPEWIRE_PROPS"] = json.dumps({"media.role": args.media_role})
    sock = socket.socket(fileno=args.control_fd)
    request = OutputRequest(tuple(args.device or [""]), args.sample_rate, tuple(args.channel))
    return serve(sock, request, Manner(args.volume, args.delay_s, Ducking(args.duck_db)))


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # PortAudio's own exit handler can hang on a device that is gone
