"""On what the networks of the embedded engine are tried when backends are chosen, and how far apart sounds are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.contracts import Session
from appliance.engine.embedded import assets, graphs
from appliance.engine.embedded.phrases import encode_phrase
from appliance.engine.placement_records import Arrays, Network

PHRASES = ("mano litomu", "nexa tomali sanmo")  # two lengths: some runtimes compile anew for each
VOICE = "jf_alpha"
F0_SAMPLES = 300  # per frame of F0
MAGNITUDES = 11  # of 22 rows of `harmonics`; the rest are phases, which mean nothing where the magnitude is nothing
WINDOW, HOP = 1024, 256
FLOOR = 2e-3  # below it a spectral line is silence
# The int8 graph and the float graph of the generator are 0.009 apart, bf16 and int8 0.013; a wrong one 0.5 and more.
LIMITS = {"front": 0.1, "excitation": 0.01, "body": 0.05, "measure": 0.1, "generator": 0.1}


def networks(
    prepared: graphs.PreparedGraphs, vocabulary: Mapping[str, int], placed: Sequence[Session]
) -> Iterator[Network]:
    """Front, excitation, body, measure, generator; each tried on what those before it (`placed`) make of `PHRASES`."""
    front = partial(_phrases, vocabulary)
    yield Network("embedded", "front", prepared.front, front, _front_distance, LIMITS["front"])
    excitation = partial(_excitations, front, placed)
    yield Network(
        engine="embedded",
        name="excitation",
        artifacts=prepared.excitation,
        samples=excitation,
        distance=_excitation_distance,
        tolerance=LIMITS["excitation"],
        arithmetic="f32",  # it adds up a phase over seconds
    )
    body = partial(_bodies, front, placed, prepared.defaults)
    yield Network("embedded", "body", prepared.body, body, _body_distance, LIMITS["body"])
    measure = partial(_sounds, body, front, placed, prepared.defaults)
    yield Network("embedded", "measure", prepared.measure, measure, _sound_distance, LIMITS["measure"])
    generator = partial(_windows, measure, placed)
    yield Network("embedded", "generator", prepared.generator, generator, _sound_distance, LIMITS["generator"])


def _style() -> NDArray[np.float32]:
    row: NDArray[np.float32] = assets.read_packs()[VOICE][len(PHRASES[0])]
    return row[None]


def _phrases(vocabulary: Mapping[str, int]) -> list[Arrays]:
    prosody = _style()[:, 128:]
    speed = np.ones(1, np.float32)
    return [{"tokens": encode_phrase(row, vocabulary), "prosody": prosody, "speed": speed} for row in PHRASES]


def _excitations(front: partial[list[Arrays]], placed: Sequence[Session]) -> list[Arrays]:
    return [_excitation(placed[0].run(feeds)["f0"]) for feeds in front()]


def _excitation(f0: NDArray[Any]) -> Arrays:
    return {"f0": f0, "noise": np.zeros((1, f0.shape[1] * F0_SAMPLES, 1), np.float32)}


def _bodies(
    front: partial[list[Arrays]], placed: Sequence[Session], defaults: Mapping[str, NDArray[np.float32]]
) -> list[Arrays]:
    biases = {name: values for name, values in defaults.items() if ".generator." not in name}
    plans = [placed[0].run(feeds) for feeds in front()]
    kept = [{name: plan[name] for name in ("features", "f0", "energy")} for plan in plans]
    return [{**row, "timbre": _style()[:, :128], **biases} for row in kept]


def _sounds(
    body: partial[list[Arrays]],
    front: partial[list[Arrays]],
    placed: Sequence[Session],
    defaults: Mapping[str, NDArray[np.float32]],
) -> list[Arrays]:
    biases = {name: values for name, values in defaults.items() if ".generator." in name}
    return [
        {
            "body": placed[2].run(row)["body"],
            "harmonics": placed[1].run(excitation)["harmonics"],
            "timbre": _style()[:, :128],
            **biases,
        }
        for row, excitation in zip(body(), _excitations(front, placed), strict=True)
    ]


def _windows(measure: partial[list[Arrays]], placed: Sequence[Session]) -> list[Arrays]:
    """A phrase each, normalised with statistics of its own."""
    rows = measure()
    told = [placed[3].run(row) for row in rows]
    statistics = [{name: value for name, value in one.items() if name != "audio"} for one in told]
    return [{**row, **one} for row, one in zip(rows, statistics, strict=True)]


def _body_distance(ours: Arrays, theirs: Arrays) -> float:
    one, two = ours["body"], theirs["body"]
    return 1.0 - float(np.corrcoef(one.ravel(), two.ravel())[0, 1]) if one.shape == two.shape else 1.0


def _front_distance(ours: Arrays, theirs: Arrays) -> float:
    """Relative difference of the lengths, and of the pitch where lengths are equal."""
    total = float(theirs["durations"].sum())
    apart = abs(float(ours["durations"].sum()) - total) / total
    if ours["f0"].shape != theirs["f0"].shape:
        return apart
    voiced = (ours["f0"] > 60) & (theirs["f0"] > 60)
    pitch = np.abs(np.log(ours["f0"][voiced] / theirs["f0"][voiced]))
    return max(apart, float(np.median(pitch)) if voiced.any() else 1.0)


def _excitation_distance(ours: Arrays, theirs: Arrays) -> float:
    one, two = (row["harmonics"][:, :MAGNITUDES] for row in (ours, theirs))
    return float(np.abs(one - two).max() / max(float(np.abs(two).max()), FLOOR)) if one.shape == two.shape else 1.0


def _sound_distance(ours: Arrays, theirs: Arrays) -> float:
    """One minus the correlation of the log spectra: blind for phases, which nobody hears."""
    one, two = (_log_spectrum(row["audio"]) for row in (ours, theirs))
    return 1.0 - float(np.corrcoef(one, two)[0, 1]) if one.shape == two.shape else 1.0


def _log_spectrum(samples: NDArray[Any]) -> NDArray[Any]:
    starts = np.arange(0, len(samples) - WINDOW + 1, HOP)
    frames = samples[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    return np.log(np.abs(np.fft.rfft(frames)) + FLOOR).ravel()
