"""An inaudible keyed mark in the telephone band, with 40 bits that lead to where the sound came from.

Spread spectrum in the MDCT domain. Frames of 40 ms every 20 ms; the 120 coefficients between 350 and 3350 Hz each get
a keyed sign times an amplitude that follows the sound's own spectrum some 17 dB below it, so that the sound hides its
mark. Every sixth coefficient follows a fixed pattern of 2 s, by which a reader finds where frames begin; the other
10 000 cells of this period carry the payload under the code of `watermark_code`, each symbol on some 42 cells strewn
over the whole period, again and again until the sound ends. Frames are counted in seconds, not samples: a mark put in
at 32 kHz is read at 8.

Reading is blind: it needs the key and nothing of the original. What is quiet for its surroundings (between the
harmonics of a voice) counts most, because there the sound itself disturbs least.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr
from numpy.typing import NDArray

from appliance.audio.watermark_code import SYMBOLS, decode_payload, encode_payload
from appliance.contracts import Audio, Samples

FRAMES_PER_S = 50
BIN_HZ = FRAMES_PER_S / 2
FIRST_BIN, BINS = 14, 120  # centres (k + 1/2) * 25 Hz: 362 .. 3337 Hz
PERIOD = 100  # frames
FIXED_BINS = np.arange(2, BINS, 6)  # follow the pattern that is the same for every payload
FREE_BINS = np.setdiff1d(np.arange(BINS), FIXED_BINS)
STRENGTH = 0.165  # amplitude of the mark over the smoothed amplitude of the sound, where that is USUAL
USUAL = 0.02  # smoothed coefficients of loud speech at -18 LUFS
EXPONENT = 0.8
MOST = 0.35  # of the amplitude of the sound, however quiet that is
FLOOR = 1e-4  # where the smoothed coefficients of a sound (full scale 1.0) are smaller, nothing is added
ENVELOPE_BINS = 5  # half width of the smoothing over frequency

READ_RATE = 16_000
WINDOW_S, STEP_S = 10.0, 5.0  # a long sound is read window by window
SHORTEST_S = 1.0
SHIFT_STEP = 8  # samples between exact transforms; in between, phases are turned
CANDIDATES = 12  # alignments that are decoded
LEAST_SCORE = 10.0  # standard deviations; of 1 000 unmarked clips two passed the check, with at most 9.0

Complex = NDArray[np.complex128]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FoundMark:
    """A mark that was read."""

    payload: int  # 40 bits
    score: float  # how clearly, in standard deviations of unmarked sound
    start_s: float  # the window it was read in
    end_s: float


@dataclass(frozen=True)
class _Pattern:
    signs: Array  # (PERIOD, BINS) of +1 and -1
    symbols: NDArray[np.intp]  # (PERIOD, FREE_BINS): which symbol a cell carries


@cache
def _pattern(key: bytes) -> _Pattern:
    free = PERIOD * len(FREE_BINS)
    stream = hashlib.shake_256(b"watermark pattern" + key).digest(8 * free + PERIOD * BINS)
    order = np.argsort(np.frombuffer(stream[: 8 * free], ">u8"), kind="stable")
    symbols = np.empty(free, np.intp)
    symbols[order] = np.arange(free) % SYMBOLS
    signs = 1.0 - 2.0 * (np.frombuffer(stream[8 * free :], np.uint8) & 1).astype(np.float64)
    return _Pattern(signs.reshape(PERIOD, BINS), symbols.reshape(PERIOD, len(FREE_BINS)))


def _chips(payload: int, key: bytes) -> Array:
    """(PERIOD, BINS) of +1 and -1: what one period of this payload adds."""
    pattern = _pattern(key)
    chips = pattern.signs.copy()
    chips[:, FREE_BINS] *= encode_payload(payload, key)[pattern.symbols]
    return chips


# ---------------------------------------------------------------- lapped transform


@cache
def _twiddles(hop: int) -> tuple[Array, Complex, Complex]:
    """Window (2 hop,), and the two phase factors of an MDCT made from a complex FFT."""
    n = np.arange(2 * hop)
    window = np.sin(np.pi * (n + 0.5) / (2 * hop))
    bins = FIRST_BIN + np.arange(BINS)
    return window, np.exp(-1j * np.pi * n / (2 * hop)), np.exp(-1j * np.pi * (bins + 0.5) * (1 + hop) / (2 * hop))


def _lapped(frames: Array, hop: int) -> Complex:
    """(t, 2 hop) -> (t, BINS): MDCT in the real part, MDST in the imaginary one, orthonormal."""
    window, before, after = _twiddles(hop)
    spectrum = np.fft.fft(frames * window * before, axis=1)[:, FIRST_BIN : FIRST_BIN + BINS]
    return np.asarray(spectrum * after * np.sqrt(2.0 / hop))


def _unlapped(coefficients: Array, hop: int) -> Array:
    """(t, BINS) real -> (t, 2 hop) windowed pieces, to be overlapped and added."""
    window, before, after = _twiddles(hop)
    spectrum = np.zeros((len(coefficients), 2 * hop), np.complex128)
    spectrum[:, FIRST_BIN : FIRST_BIN + BINS] = coefficients * np.conj(after)
    pieces = np.fft.ifft(spectrum, axis=1) * (2 * hop) * np.conj(before)
    return np.asarray(pieces.real * window * np.sqrt(2.0 / hop))


def _envelope(coefficients: Complex) -> Array:
    """(t, BINS) -> (t, BINS): amplitude smoothed over frequency."""
    power = np.abs(coefficients) ** 2 / 2
    width = 2 * ENVELOPE_BINS + 1
    padded = np.pad(power, ((0, 0), (ENVELOPE_BINS + 1, ENVELOPE_BINS)), mode="edge")
    running = np.cumsum(padded, axis=1)
    return np.sqrt(np.maximum(running[:, width:] - running[:, :-width], 0.0) / width)


# ---------------------------------------------------------------- embedding


def _mark_amplitude(envelope: Array) -> Array:
    """How loud the mark is in each cell: weaker parts of speech hide, and carry, relatively more than strong ones."""
    return np.asarray(np.minimum(STRENGTH * envelope**EXPONENT * USUAL ** (1 - EXPONENT), MOST * envelope))


class WatermarkEmbedder:
    """Marks one stream. `embed` chunk by chunk, `finish` once; the joined answers are as long as what went in.

    What comes out depends on the samples and the payload alone, never on how they were cut into chunks; 20 ms are held
    back. The rate must be a multiple of 50 Hz, as all usual ones are.
    """

    def __init__(self, key: bytes, payload: int, sample_rate: int) -> None:
        self._hop = sample_rate // FRAMES_PER_S
        self._chips = _chips(payload, key)
        self._frame = 0  # number of the next frame
        self._input = np.zeros(self._hop)  # from the start of the next frame; the first one begins before the sound
        self._tail = np.zeros(self._hop)  # the second half of the last frame's mark
        self._skip = self._hop  # of the output: the half frame before the sound

    def embed(self, samples: Samples) -> Samples:
        """(n,) -> (m,): what is finished by now."""
        self._input = np.concatenate([self._input, samples])
        count = len(self._input) // self._hop - 1
        if count <= 0:
            return np.zeros(0, np.float32)
        parts = [self._advance(min(500, count - start)) for start in range(0, count, 500)]
        return np.concatenate(parts)

    def finish(self) -> Samples:
        """(k,): the rest."""
        left = len(self._input) - self._skip
        padding = np.zeros(2 * self._hop, np.float32)
        return self.embed(padding)[:left]

    def _advance(self, count: int) -> Samples:
        """Mark `count` frames; gives as many hops of sound."""
        hop = self._hop
        frames = np.lib.stride_tricks.sliding_window_view(self._input[: (count + 1) * hop], 2 * hop)[::hop]
        coefficients = _lapped(frames, hop)
        amplitude = _envelope(coefficients)
        amplitude[amplitude < FLOOR] = 0.0
        chips = self._chips[(self._frame + np.arange(count)) % PERIOD]
        pieces = _unlapped(_mark_amplitude(amplitude) * chips, hop)
        mark = pieces[:, :hop]
        mark[0] += self._tail
        mark[1:] += pieces[:-1, hop:]
        marked = (self._input[: count * hop] + mark.ravel())[self._skip :].astype(np.float32)
        self._tail, self._input = pieces[-1, hop:], self._input[count * hop :]
        self._frame, self._skip = self._frame + count, 0
        return np.asarray(marked)


def embed_watermark(audio: Audio, key: bytes, payload: int) -> Audio:
    """The whole sound marked; the same samples as `WatermarkEmbedder` gives."""
    embedder = WatermarkEmbedder(key, payload, audio.sample_rate)
    return Audio(np.concatenate([embedder.embed(audio.samples), embedder.finish()]), audio.sample_rate)


# ---------------------------------------------------------------- reading


def find_watermark(audio: Audio, key: bytes) -> FoundMark | None:
    """The first mark of this key in a mono sound of any rate, or None."""
    samples = np.asarray(audio.samples, np.float32)
    if audio.sample_rate != READ_RATE:
        samples = soxr.resample(samples, audio.sample_rate, READ_RATE)
    for start, part in _windows(samples):
        found = _read_window(part, key)
        if found is not None:
            return FoundMark(found[0], round(found[1], 1), start / READ_RATE, (start + len(part)) / READ_RATE)
    return None


def _windows(samples: Samples) -> Iterator[tuple[int, Samples]]:
    size, step = int(WINDOW_S * READ_RATE), int(STEP_S * READ_RATE)
    for start in range(0, max(1, len(samples) - size + step), step):
        part = samples[start : start + size]
        if len(part) >= SHORTEST_S * READ_RATE:
            yield start, part


def _read_window(samples: Samples, key: bytes) -> tuple[int, float] | None:
    hop = READ_RATE // FRAMES_PER_S
    padded = np.concatenate([samples.astype(np.float64), np.zeros(hop)])
    transforms = {shift: _Cells.of(padded[shift:], hop) for shift in range(0, hop, SHIFT_STEP)}
    found: list[tuple[int, float]] = []
    for _, shift, phase in _alignments(transforms, key):
        turn = shift % SHIFT_STEP
        decoded = _decode(transforms[shift - turn].evidence(turn), phase, key)
        if decoded is not None:
            found.append(decoded)
    return max(found, key=lambda one: one[1], default=None)  # one in 4 096 wrong readings passes the check too


@dataclass(frozen=True)
class _Cells:
    """The transform of one framing of a window, and how much each cell of it says."""

    values: Complex  # (t, BINS)
    weights: Array  # (t, BINS); does not change while phases turn

    @classmethod
    def of(cls, samples: Array, hop: int) -> _Cells:
        """Weights are high where the sound is weak for its surroundings: the mark is not, and is disturbed least."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, 2 * hop)[::hop]
        values = _lapped(frames, hop)
        power = np.abs(values) ** 2
        padded = np.pad(power, ((0, 0), (1, 1)), mode="edge")
        near = (padded[:, :-2] + 2 * power + padded[:, 2:]) / 4
        envelope = _envelope(values)
        return cls(values, envelope / (near + 0.02 * envelope**2 + 1e-14))

    def evidence(self, turn: int, bins: NDArray[np.intp] | slice = slice(None)) -> Array:
        """(t, bins) within -1 .. 1: MDCT coefficients of frames that begin `turn` samples later, nearly: over so few
        samples the phases move and the windows hardly do."""
        hz = (FIRST_BIN + np.arange(BINS)[bins] + 0.5) * BIN_HZ
        turned = self.values[:, bins] * np.exp(2j * np.pi * hz * turn / READ_RATE)
        value = turned.real * self.weights[:, bins]
        return np.asarray(value / (2.0 + np.abs(value)))


def _alignments(transforms: dict[int, _Cells], key: bytes) -> list[tuple[float, int, int]]:
    """The likeliest (score, shift in samples, period phase of the first frame), best first."""
    fixed = _pattern(key).signs[:, FIXED_BINS]
    rows: list[tuple[float, int, int]] = []
    for start, cells in transforms.items():
        for turn in range(SHIFT_STEP):
            values = cells.evidence(turn, FIXED_BINS)
            scores = np.abs(_correlate(values, fixed)) / (float(np.sqrt(np.sum(values**2))) + 1e-12)
            phase = int(scores.argmax())
            rows.append((float(scores[phase]), start + turn, phase))
    return sorted(rows, reverse=True)[:CANDIDATES]


def _correlate(values: Array, fixed: Array) -> Array:
    """(PERIOD,): correlation with the fixed pattern for each phase of the first frame."""
    products = values @ fixed.T  # (t, PERIOD)
    phases = (np.arange(len(values))[:, None] + np.arange(PERIOD)[None, :]) % PERIOD
    return np.asarray(np.take_along_axis(products, phases, axis=1).sum(axis=0))


def _decode(values: Array, phase: int, key: bytes) -> tuple[int, float] | None:
    """Payload and score of one alignment; None when the check fails or the score is too low to mean anything."""
    pattern = _pattern(key)
    folded = np.zeros((PERIOD, BINS))
    np.add.at(folded, (phase + np.arange(len(values))) % PERIOD, values)
    agreeing = folded * pattern.signs
    polarity = 1.0 if float(agreeing[:, FIXED_BINS].sum()) >= 0 else -1.0
    symbols: Array = np.bincount(pattern.symbols.ravel(), agreeing[:, FREE_BINS].ravel(), SYMBOLS).astype(np.float64)
    payload = decode_payload(polarity * symbols, key)
    if payload is None:
        return None
    score = polarity * float(np.sum(folded * _chips(payload, key))) / (float(np.sqrt(np.sum(values**2))) + 1e-12)
    return (payload, score) if score >= LEAST_SCORE else None
