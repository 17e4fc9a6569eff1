"""Two real daemons in two network namespaces with a cable between them, and a sound card each that writes a file."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "daemon"))

from box import RunningBox, tone_box

from appliance.announcer.programme import compose
from appliance.audio.files import read_audio, to_mono
from appliance.contracts import Audio

RATE = 24_000  # of the engine and of the cards: nothing is resampled
CARD = """
pcm.null {{ type null }}
pcm.hall_card {{ type file slave.pcm "null" file "|cat >> {path}" format "raw" }}
pcm.!default {{ type plug slave.pcm "null" }}
"""
CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why this machine cannot run two networks; "": it can."""
    if ctypes.util.find_library("portaudio") is None:
        return "PortAudio is not installed (Debian: libportaudio2)"
    made = subprocess.run(["ip", "netns", "add", "voiced-probe"], capture_output=True, check=False)
    if made.returncode != 0:
        return "network namespaces need root and iproute2"
    subprocess.run(["ip", "netns", "del", "voiced-probe"], check=False)
    return ""


@dataclass
class Place:
    """One box in its own network."""

    space: str  # name of the network namespace
    address: str
    box: RunningBox
    played_path: Path

    def __post_init__(self) -> None:
        self._inside = ThreadPoolExecutor(4, initializer=_enter, initargs=(self.space,))

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, dict]:
        """One request from within its network."""
        return self._inside.submit(self._ask, method, path, document).result(60)

    def _ask(self, method: str, path: str, document: object) -> tuple[int, dict]:
        body = None if document is None else json.dumps(document).encode()
        asked = urllib.request.Request(
            f"{self.box.url}{path}", body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=50) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    @property
    def lan_url(self) -> str:
        return f"https://{self.address}:{self.box.url.rsplit(':', 1)[1]}"

    def say(self, text: str, zone: str, **more: object) -> str:
        order = {"text": text, "voice": "sine-440", "zones": [zone], **more}
        status, row = self.ask("POST", "/v1/announcements", order)
        assert status == 202, row
        return row["id"]

    def message(self, announcement: str) -> dict:
        return self.ask("GET", f"/v1/announcements/{announcement}")[1]

    def over(self, announcement: str, timeout_s: float = 60.0) -> dict:
        """Wait until the message is over."""
        is_over = lambda: self.message(announcement)["state"] in ("done", "failed", "cancelled", "expired")
        until(is_over, timeout_s, lambda: self.message(announcement))
        return self.message(announcement)

    def played(self) -> np.ndarray:
        """(n,) everything that its card was given so far."""
        raw = self.played_path.read_bytes() if self.played_path.exists() else b""
        return np.frombuffer(raw[: len(raw) // 8 * 8], "<f4").reshape(-1, 2)[:, 0]

    def sound_of(self, announcement: str) -> np.ndarray:
        """What is to be heard of a message of this box: (n,)."""
        digest = self.message(announcement)["audio"]
        decoded = read_audio(self.box.state_dir / "blobs/sha256" / digest[:2] / digest[2:])
        row = SimpleNamespace(chime=False, repeats=1, pause_s=0.0)
        return compose(Audio(to_mono(decoded.samples), decoded.sample_rate), row, -18.0).samples

    def cable(self, state: str) -> None:
        """Plug it in ("up") or out ("down")."""
        _ip("-n", self.space, "link", "set", "cable", state)


def times_heard(played: np.ndarray, sound: np.ndarray) -> int:
    """How often a sound was played in full, sample by sample."""
    peak = int(np.argmax(np.abs(sound)))
    starts = np.flatnonzero(played == sound[peak]) - peak
    inside = [start for start in starts if start >= 0 and start + len(sound) <= len(played)]
    return sum(np.array_equal(played[start : start + len(sound)], sound) for start in inside)


def until(condition: Callable[[], object], timeout_s: float = 30.0, tell: Callable[[], object] = str) -> float:
    """Wait until something is true; how long that took (s)."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"it did not happen in time: {tell()}"
        time.sleep(0.05)
    return time.monotonic() - began


def lay_cable(first: str, second: str) -> None:
    """Two networks with one cable between them."""
    for space in (first, second):
        _ip("netns", "add", space)
        _ip("-n", space, "link", "set", "lo", "up")
    _ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)


def plug_in(place: Place) -> None:
    _ip("-n", place.space, "addr", "add", f"{place.address}/24", "dev", "cable")
    place.cable("up")


def make_place(folder: Path, space: str, address: str, name: str, zones: dict[str, dict]) -> Place:
    """A box that is not started yet."""
    card = folder / "asound.conf"
    folder.mkdir(parents=True)
    card.write_text(CARD.format(path=folder / "played.raw"))
    settings = {
        "VOICED_LOUDSPEAKER__ENABLED": "true",
        "VOICED_LOUDSPEAKER__ZONES": json.dumps(zones),
        "VOICED_LOUDSPEAKER__SAMPLE_RATE": str(RATE),
        "VOICED_LOUDSPEAKER__CHIME": "false",
        "VOICED_DISCOVERY__ENABLED": "true",
        "VOICED_DISCOVERY__NAME": name,
        "VOICED_HTTP__HOST": "0.0.0.0",
        "ALSA_CONFIG_PATH": str(card),
    }
    box = tone_box(folder, **settings)
    box.within = ("ip", "netns", "exec", space)
    return Place(space, address, box, folder / "played.raw")


def move(place: Place, address: str) -> None:
    """Give it another address."""
    _ip("-n", place.space, "addr", "flush", "dev", "cable")
    place.address = address
    plug_in(place)


def pair_up(first: Place, second: Place) -> str:
    """The second gives out a code, the first types it in; the id that the first box has at the second."""
    code = second.ask("POST", "/v1/peers/invitations", {})[1]["code"]
    status, paired = first.ask("POST", "/v1/peers", {"url": second.lan_url, "code": code})
    assert status == 201, paired
    return second.ask("GET", "/v1/peers")[1]["items"][0]["id"]


def remove_networks(*spaces: str) -> None:
    for space in spaces:
        subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _enter(space: str) -> None:
    """This thread's sockets are in that network from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/var/run/netns/{space}").open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
