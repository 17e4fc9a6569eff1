"""`voiced bench --engine gpt_sovits`: fixed workloads on synthetic weights, beside the reference path."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from appliance.contracts import EngineHost, JsonDict, VoiceAssets

if TYPE_CHECKING:
    from appliance.cli.bench_peer import Peer
    from appliance.engine.gpt_sovits.workload import Measured, Workbench, Workload

REFERENCE = "torch fp32"  # the networks themselves: what the published implementation runs
REFERENCE_SHARE = 3  # the reference path is timed in every third round: it takes several times as long
ROLES = ("s1", "s2", "bert")
LISTENER = "hubert"  # hears reference clips


def make_voice(folder: Path, host: EngineHost, version: str, roles: Sequence[str] = ROLES) -> VoiceAssets:
    """A voice of drawn weights of official size, with the networks of `roles` exported for the backends of `host`."""
    from appliance.engine.gpt_sovits.exports import export_file
    from appliance.engine.gpt_sovits.synthetic import synthetic_voice

    voice = synthetic_voice(folder, version)
    for role in roles:
        export_file(role, voice.files[role], voice.files.get(f"{role}_config"), host)
    return voice


class Bench:
    """Two workbenches of the same weights: on backends, and on the networks themselves."""

    def __init__(self, voice: VoiceAssets, host: EngineHost, version: str) -> None:
        import torch

        from appliance.engine.gpt_sovits.networks import Networks
        from appliance.engine.gpt_sovits.preparation import Preparation
        from appliance.engine.gpt_sovits.workload import Workbench

        torch.set_num_threads(host.threads)
        self.version, self.voice = version, voice
        self.preparation = Preparation(host)
        started = time.perf_counter()
        self.networks = Networks(self.preparation)
        self.fast: Workbench = Workbench(self.networks, self.voice)
        self.load_ms = 1000 * (time.perf_counter() - started)
        self.memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self._make_reference: Callable[[], Workbench] = lambda: Workbench(Networks(None), self.voice)

    def placement(self) -> list[JsonDict]:
        """Which backend computes which network, and why."""
        return [*self.preparation.rows(), *self.networks.decoder_rows()]

    def measure(self, runs: int, users: Sequence[int], peer: Peer | None) -> tuple[list[JsonDict], list[JsonDict]]:
        """Rows of workloads, and of the reference path and `peer`, medians; all are timed in turns."""
        from appliance.engine.gpt_sovits.workload import WORKLOADS

        reference = self._make_reference()
        rows, peers = [], []
        for name, workload in WORKLOADS.items():
            speak = partial(peer.speak, name) if peer else None
            streamed, whole, theirs = self._in_turns(workload, runs, reference, speak)
            row = {"name": name, "model": self.version, "users": 1, **summary(streamed, whole)}
            rows.append(row)
            peers.append({"name": REFERENCE, "workload": name, "model": self.version, **_peer(theirs, row)})
            if peer:
                peers.append(peer.row(name, row))
        for count in users:
            if count > 1:
                rows += [self._together(name, workload, count) for name, workload in WORKLOADS.items()]
        return rows, peers

    def _in_turns(
        self, workload: Workload, runs: int, reference: Workbench, peer: Callable[[Workload], None] | None
    ) -> tuple[list[Measured], list[Measured], list[Measured]]:
        """Ours streaming and in one go, and the reference path; the first round of ours and of `peer` warms up."""
        self.fast.speak(workload, is_streaming=True)
        if peer:
            peer(workload)
        streamed, whole, theirs = [], [], []
        for number in range(runs):
            streamed.append(self.fast.speak(workload, is_streaming=True))
            whole.append(self.fast.speak(workload, is_streaming=False))
            if number % REFERENCE_SHARE == 0:
                theirs.append(reference.speak(workload, is_streaming=False))
            if peer:
                peer(workload)
        return streamed, whole, theirs

    def _together(self, name: str, workload: Workload, users: int) -> JsonDict:
        began = time.perf_counter()
        done = self.fast.speak_together(workload, users)
        spent_s = time.perf_counter() - began
        row = {"name": f"{name} x{users}", "model": self.version, "users": users, **summary(done, done)}
        row["slowest_first_sound_ms"] = round(max(one.first_sound_ms for one in done), 1)
        row["longest_gaps_ms"] = round(max(one.gaps_ms for one in done), 1)
        return row | {"throughput": round(sum(one.audio_s for one in done) / spent_s, 3)}


def summary(streamed: Sequence[Measured], whole: Sequence[Measured]) -> JsonDict:
    """Medians. `total_ms` and `rtf` are of speech in one go, the rest of speech while it is made."""
    stages = streamed[0].stages
    return {
        "first_sound_ms": round(median(one.first_sound_ms for one in streamed), 1),
        "total_ms": round(median(one.total_ms for one in whole), 1),
        "audio_s": round(whole[0].audio_s, 3),
        "rtf": round(median(one.total_ms / 1000 / one.audio_s for one in whole), 4),
        "streamed_total_ms": round(median(one.total_ms for one in streamed), 1),
        "gaps_ms": round(median(one.gaps_ms for one in streamed), 1),
        "stages": {name: round(median(one.stages[name] for one in whole), 1) for name in stages},
    }


def _peer(theirs: Sequence[Measured], ours: JsonDict) -> JsonDict:
    total = median(one.total_ms for one in theirs)
    return {
        "total_ms": round(total, 1),
        "rtf": round(median(one.total_ms / 1000 / one.audio_s for one in theirs), 4),
        "stages": {name: round(median(one.stages[name] for one in theirs), 1) for name in theirs[0].stages},
        "ratio": round(total / ours["total_ms"], 2),
    }


def plot_svg(rows: Sequence[JsonDict], peers: Sequence[JsonDict]) -> str:
    """Stages of every workload as bars of milliseconds per second of sound, one over the other, as an SVG file."""
    bars = [(f"{row['model']} {row['name']}", row["stages"], row["audio_s"]) for row in rows if row["users"] == 1]
    lengths = {row["name"]: row["audio_s"] for row in rows}
    bars += [
        (f"{one['model']} {one['workload']}, {one['name']}", one["stages"], lengths[one["workload"]])
        for one in peers
        if one["stages"]
    ]
    longest = max(sum(stages.values()) / seconds for _, stages, seconds in bars)
    colours = dict(zip(bars[0][1], ("#345995", "#e26d5c", "#8a9a5b", "#e9c46a", "#7b6d8d"), strict=False))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {40 * len(bars) + 40}" font-family="sans-serif">'
    ]
    for number, (title, stages, seconds) in enumerate(bars):
        x, y = 260.0, 40 * number + 10
        lines.append(f'<text x="250" y="{y + 17}" text-anchor="end" font-size="13">{title}</text>')
        for name, spent in stages.items():
            width = 600 * spent / seconds / longest
            lines.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="24" fill="{colours[name]}"><title>{name}: '
                f"{spent:.0f} ms</title></rect>"
            )
            x += width
    for number, (name, colour) in enumerate(colours.items()):
        x, y = 260 + 110 * number, 40 * len(bars) + 14
        lines.append(f'<rect x="{x}" y="{y}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 18}" y="{y + 11}" font-size="12">{name}</text>')
    return "\n".join([*lines, "</svg>"])
