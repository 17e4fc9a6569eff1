"""What a voice's normalisations come to: measured once per voice on fixed phrases, kept beside the graphs.

A phrase begins and ends with about as much silence however long it is, so mean and deviation of a channel depend on its
length: they are fitted as a + b / length (the deviation in its logarithm). Constants instead of this make a one-word
sentence 20 dB too quiet; with it, levels stay within 2 dB and log spectra within .04 of the published normalisation.

The measurement is part of what a voice is, not of a request: equal tasks stay equal whatever was spoken before, on a
box that measured the voice last year as on one that does so now. It takes about as long as speaking nine seconds.
"""

from __future__ import annotations

import hashlib
import secrets
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

PHRASES = (  # Mandarin and English from one word to a sentence, as the front ends write them
    "xaʊ↓.",
    "plˈiz wˈeɪt hˈɪɹ.",
    "kɤ↘ weɪ↘ ku↘ kʰɤ↘ tɕʰiŋ↓ ʈʂu↘ i↘",
    "nin↗ xaʊ↓, xwan→ jiŋ→ kwaŋ→ lin↗ wo↓ mən tjɛn↘ li↓.",
)
LENGTHS = (80.0, 800.0)  # frames of 12.5 ms between which the fit is used
_LUFS = "lufs"
MEAN, DEVIATION = "mean.", "deviation."  # how inputs of the generator begin


@dataclass(frozen=True)
class Measures:
    """Of one voice."""

    fits: Mapping[str, Array]  # input of the generator -> (2, 1, C, 1): a and b
    lufs: float  # how loud it speaks

    def at(self, frames: float) -> dict[str, Array]:
        """The inputs of the generator, (1, C, 1) each, for a phrase that has so many frames at normal speed."""
        inverse = np.float32(1.0 / np.clip(frames, *LENGTHS))
        values = {name: constant + slope * inverse for name, (constant, slope) in self.fits.items()}
        return {name: np.exp(row) if name.startswith(DEVIATION) else row for name, row in values.items()}


def fit_statistics(rows: Sequence[Mapping[str, Array]], frames: Sequence[int]) -> dict[str, Array]:
    """Means and deviations of several phrases of so many frames -> `Measures.fits`, by least squares."""
    lengths = np.asarray(frames, np.float64)
    solve = np.linalg.pinv(np.stack([np.ones_like(lengths), 1.0 / lengths], axis=1))  # (2, phrases)
    fits: dict[str, Array] = {}
    for name in rows[0]:
        values = np.stack([row[name] for row in rows]).astype(np.float64)
        if name.startswith(DEVIATION):
            values = np.log(np.maximum(values, 1e-5))
        fits[name] = np.tensordot(solve, values, 1).astype(np.float32)
    return fits


class MeasuresOnDisk:
    """Measures by the digest of a voice, in the cache folder. A file may be deleted; a damaged one counts as absent."""

    def __init__(self, folder: Path, edition: str) -> None:
        """`edition` names the graphs that measured: others may come to other values."""
        self._folder = folder
        self._edition = " ".join((edition, *PHRASES))

    def read(self, voice: str) -> Measures | None:
        try:
            with np.load(self._place(voice), allow_pickle=False) as stored:
                values = {name: stored[name] for name in stored.files}
            lufs = float(values.pop(_LUFS))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None
        return Measures(values, lufs)

    def write(self, voice: str, measures: Measures) -> None:
        """Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}.npz"
        try:
            with temporary.open("wb") as file:
                np.savez(file, **dict(measures.fits), **{_LUFS: np.array(measures.lufs)})  # type: ignore[arg-type]
            temporary.replace(self._place(voice))
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, voice: str) -> Path:
        return self._folder / f"{hashlib.sha256(f'{self._edition} {voice}'.encode()).hexdigest()[:40]}.npz"
