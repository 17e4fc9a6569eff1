"""What a dataset amounts to: minutes, distance to the noise, sounds, pace. Worked out once, kept beside the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median

from appliance.audio.speaking_rate import count_syllables
from appliance.contracts import JsonDict
from appliance.voices.datasets import DatasetStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import Dataset
from appliance.workers import WorkerPool

SNR_EDGES = (10, 15, 20, 25, 30, 35, 40, 50)  # dB; below the first and above the last is a bar too
LENGTH_EDGES = (2, 4, 6, 8, 10, 15, 20, 30)  # s


class Surveyor:
    """Surveys of the datasets of a box. Every call is scoped by tenant."""

    def __init__(self, datasets: DatasetStore, recordings: RecordingStore, pool: WorkerPool) -> None:
        self._datasets = datasets
        self._recordings = recordings
        self._pool = pool

    async def survey(self, tenant: str, dataset: Dataset) -> JsonDict:
        """From the row where it was made before, else made now: reading the words aloud takes a listener."""
        kept = await self._datasets.survey(tenant, dataset.id)
        if kept is not None:
            return kept
        ids = [clip["recording"] for clip in dataset.clips]
        measures = await self._recordings.measures(tenant, ids)
        coverage = await self._pool.cover(_texts(dataset.clips))
        return await self._datasets.keep_survey(tenant, dataset.id, describe(dataset.clips, measures, coverage))


def _texts(clips: Sequence[JsonDict]) -> dict[str, list[str]]:
    """Transcripts by how they are to be read: Chinese is read with the English in it."""
    texts: dict[str, list[str]] = {}
    for clip in clips:
        if clip["transcript"]:
            texts.setdefault("en" if clip["language"] == "en" else "mixed", []).append(clip["transcript"])
    return texts


def describe(clips: Sequence[JsonDict], measures: Mapping[str, JsonDict], coverage: JsonDict) -> JsonDict:
    """`measures`: of the recordings, by id; of one that was erased they may be absent."""
    known = [measures.get(clip["recording"], {}) for clip in clips]
    ratios = [float(row["snr_db"]) for row in known if row.get("snr_db") is not None]
    lengths = [float(clip["duration_s"]) for clip in clips]
    speech_s = sum(float(row.get("speech_s") or clip["duration_s"]) for row, clip in zip(known, clips, strict=True))
    return {
        "minutes": round(sum(lengths) / 60, 2),
        "speech_minutes": round(speech_s / 60, 2),
        "clips": len(clips),
        "clip_s": {"min": min(lengths), "median": median(lengths), "max": max(lengths)} if lengths else None,
        "lengths": histogram(lengths, LENGTH_EDGES),
        "snr_db": {"min": min(ratios), "median": median(ratios), "max": max(ratios)} if ratios else None,
        "snr": histogram(ratios, SNR_EDGES),
        "speaking_rate": _rates(clips, known),
        "coverage": coverage,
    }


def _rates(clips: Sequence[JsonDict], known: Sequence[JsonDict]) -> dict[str, float]:
    """Syllables per second of speech, by language."""
    rates: dict[str, list[float]] = {}
    for clip, row in zip(clips, known, strict=True):
        seconds = float(row.get("speech_s") or 0.0)
        if seconds > 0 and (syllables := count_syllables(clip["transcript"])):
            rates.setdefault(clip["language"], []).append(syllables / seconds)
    return {language: round(fmean(found), 2) for language, found in rates.items()}


def histogram(values: Sequence[float], edges: Sequence[int]) -> list[JsonDict]:
    """Bars from below the first edge to above the last: {"from", "to", "count"}, null for open ends."""
    bounds = [None, *edges, None]
    rows: list[JsonDict] = []
    for low, high in pairwise(bounds):
        count = sum((low is None or value >= low) and (high is None or value < high) for value in values)
        rows.append({"from": low, "to": high, "count": count})
    return rows
