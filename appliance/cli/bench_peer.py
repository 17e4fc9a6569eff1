"""`voiced bench --peer`: somebody else's engine, timed in turns with ours, with the same drawn weights.

It runs in a process and under a Python of its own and is no dependency of voiced. Whatever goes wrong with it is a
reason in its row, and the measurement of ours goes on.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING

from appliance.contracts import JsonDict, VoiceAssets

if TYPE_CHECKING:
    from appliance.engine.gpt_sovits.workload import Workload

GENIE = "genie-tts"
PEERS = (GENIE,)
VERSIONS = ("v2", "v2ProPlus")  # that genie-tts has networks for
SCRIPT = Path(__file__).with_name("genie_peer.py")
STAGES = ("prefill", "tokens", "sound")
NOTE = "prefill, tokens and sound: its BERT and HuBERT are downloads of their own; ratio_with_bert counts ours for both"
LOAD_S, SPEAK_S = 300.0, 120.0  # that an answer is waited for


class PeerError(Exception):
    """The peer does not answer; the text says why."""


class Peer:
    """genie-tts with the weights of `voice`. Once it has failed it is left alone, and `reason` says why."""

    def __init__(self, python: str, voice: VoiceAssets, version: str, folder: Path) -> None:
        """Start it; `folder` is made, and what it takes is written there (0.6 GB)."""
        self.name, self.reason, self._version = GENIE, "", version
        self._rounds: defaultdict[str, list[JsonDict]] = defaultdict(list)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = folder / "stderr"
        folder.mkdir()
        try:
            if version not in VERSIONS:
                raise PeerError(f"{GENIE} has no networks of {version}")
            write_official(voice, folder)
            self._process = self._start(python, folder)
            versions = self._read(LOAD_S)["versions"]
            self.name, self.runtime = f"{GENIE} {versions[GENIE]}", f"onnxruntime {versions['onnxruntime']}"
        except (PeerError, OSError, KeyError, TypeError) as error:
            self._fail(error)

    def _start(self, python: str, folder: Path) -> subprocess.Popen[bytes]:
        with self._errors.open("wb") as errors:
            return subprocess.Popen(
                [python, "-I", str(SCRIPT), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )

    def speak(self, name: str, workload: Workload) -> None:
        """Time one more round of the workload called `name`."""
        from appliance.engine.gpt_sovits.workload import PROMPT_PHONES, PROMPT_TOKENS

        if self._process is None:
            return
        order = {"phones": workload.phones, "tokens": workload.tokens}
        order |= {"prompt_phones": PROMPT_PHONES, "prompt_tokens": PROMPT_TOKENS}
        try:
            asked: IO[bytes] = self._process.stdin  # type: ignore[assignment] # a pipe
            asked.write(json.dumps(order).encode() + b"\n")
            asked.flush()
            answer = self._read(SPEAK_S)
            self._rounds[name].append({stage: float(answer[stage]) for stage in STAGES})
        except (PeerError, OSError, KeyError, TypeError, ValueError) as error:
            self._fail(error)

    def row(self, name: str, ours: JsonDict) -> JsonDict:
        """Medians of all rounds but the first, which warms up.

        `ratio` is to the same stages of `ours`; `ratio_with_bert` that of the whole, as if it had our BERT, as quick.
        """
        row = {"name": self.name, "workload": name, "model": self._version, "note": NOTE}
        rounds = self._rounds[name][1:]
        if self.reason or not rounds:
            empty = dict.fromkeys(("total_ms", "rtf", "ratio", "ratio_with_bert"))
            return row | empty | {"stages": {}, "reason": self.reason or "not timed"}
        total = median(sum(one.values()) for one in rounds)
        return row | {
            "runtime": self.runtime,
            "total_ms": round(total, 1),
            "rtf": round(total / 1000 / ours["audio_s"], 4),
            "stages": {stage: round(median(one[stage] for one in rounds), 1) for stage in STAGES},
            "ratio": round(total / sum(ours["stages"][stage] for stage in STAGES), 2),
            "ratio_with_bert": round((total + ours["stages"]["bert"]) / ours["total_ms"], 2),
        }

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _fail(self, error: Exception) -> None:
        self.reason = str(error) if isinstance(error, PeerError) else f"{type(error).__name__}: {error}"
        self.close()

    def _read(self, patience_s: float) -> JsonDict:
        """The next line of its answers. Raises PeerError."""
        out = self._process.stdout.fileno() if self._process and self._process.stdout else -1
        line, until = b"", time.monotonic() + patience_s
        while not line.endswith(b"\n"):
            if not select.select([out], [], [], max(0.0, until - time.monotonic()))[0]:
                raise PeerError(f"no answer within {patience_s:.0f} s")
            piece = os.read(out, 1 << 16)
            if not piece:
                raise PeerError(f"its process ended: {_last_line(self._errors)}")
            line += piece
        try:
            answer = json.loads(line)
        except ValueError:
            raise PeerError(f"its answer is no JSON: {line[:80]!r}") from None
        if not isinstance(answer, dict) or "reason" in answer:
            raise PeerError(str(answer["reason"]) if isinstance(answer, dict) else "its answer is no table")
        return answer


def write_official(voice: VoiceAssets, folder: Path) -> None:
    """The drawn networks of `voice` as official files, "s1.ckpt" and "s2.pth". Raises OSError."""
    from safetensors.numpy import load_file, save_file

    from appliance.engine.gpt_sovits.official import export_pair
    from appliance.engine.gpt_sovits.t2s import NAME_PREFIX

    named = folder / "s1.safetensors"
    tensors = load_file(voice.files["s1"])
    save_file({NAME_PREFIX + name.removeprefix(NAME_PREFIX): one for name, one in tensors.items()}, named)
    written = export_pair("drawn", {**voice.files, "s1": named}, {}, folder)
    written.s1.rename(folder / "s1.ckpt")
    written.s2.rename(folder / "s2.pth")
    named.unlink()


def _last_line(file: Path) -> str:
    lines = file.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "nothing was said"
