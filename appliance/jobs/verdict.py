"""What speaks against a candidate, and which of several is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.contracts import JsonDict, Reason
from appliance.settings import CloneSettings

PASSED, FAILED, NEEDS_PERSON = "passed", "failed", "needs_person"
MAX_CLIPPED_SHARE = 0.001
_RANKS = {FAILED: 0, NEEDS_PERSON: 1, PASSED: 2}
QUALITY_WEIGHT = 0.2  # of one DNSMOS point, where 1 is the whole way to the speaker or every word misheard


def limits_as_json(limits: CloneSettings) -> JsonDict:
    """The thresholds that a verdict was reached with."""
    names = ("max_wer", "min_dnsmos", "max_pitch_drift", "max_rate_drift", "max_dropped_share", "max_repeated")
    return {**{name: getattr(limits, name) for name in names}, "max_clipped_share": MAX_CLIPPED_SHARE}


class _Bench:
    """Collects what fails and what could not be measured."""

    def __init__(self) -> None:
        self.failures: list[Reason] = []
        self.unknown: list[Reason] = []

    def require(self, code: str, figure: float | None, is_fine: Callable[[float], bool], limit: float) -> None:
        if figure is None:
            self.unknown.append(Reason("exam_not_measured", {"measure": code.removeprefix("exam_")}))
        else:
            self.check(code, figure, is_fine, limit)

    def check(self, code: str, figure: float | None, is_fine: Callable[[float], bool], limit: float) -> None:
        """As `require`, for what may stay unknown."""
        if figure is not None and not is_fine(figure):
            self.failures.append(Reason(code, {"value": round(figure, 3), "limit": limit}))


def judge(summary: JsonDict, limits: CloneSettings) -> tuple[list[Reason], list[Reason]]:
    """What speaks against the candidate, and what could not be measured."""
    clone, bench = summary["clone"], _Bench()
    wer = limits.max_wer
    for language in ("en", "zh"):
        bench.require(f"exam_misheard_{language}", clone["error"][language], lambda value: value <= wer, wer)
    bench.require("exam_low_quality", clone["dnsmos"], lambda value: value >= limits.min_dnsmos, limits.min_dnsmos)
    bench.require("exam_clipped", clone["clipped_share"], lambda value: value <= MAX_CLIPPED_SHARE, MAX_CLIPPED_SHARE)
    drift = limits.max_pitch_drift
    bench.require("exam_pitch_drift", clone["f0_drift_semitones"], lambda value: abs(value) <= drift, drift)
    rate = limits.max_rate_drift
    bench.check("exam_rate_drift", clone["rate_drift"], lambda value: abs(value) <= rate, rate)
    dropped, repeated = limits.max_dropped_share, limits.max_repeated
    bench.check("exam_words_dropped", clone["dropped_share"], lambda value: value <= dropped, dropped)
    bench.check("exam_words_repeated", clone["repeated"], lambda value: value <= repeated, repeated)
    _judge_likeness(bench, summary, limits)
    return bench.failures, bench.unknown


def _judge_likeness(bench: _Bench, summary: JsonDict, limits: CloneSettings) -> None:
    clone, base, others = summary["clone"], summary.get("base"), summary["others"]
    if base:
        least = limits.min_likeness_gain
        bench.require("exam_not_alike", _gain(base, clone, "llr"), lambda value: value >= least, least)
        bench.require("exam_not_nearer", _gain(clone, base, "mfcc_distance"), lambda value: value > 0.0, 0.0)
    else:
        bench.require("exam_not_alike", clone["llr"], lambda value: value > 0.0, 0.0)
    nearest = _gain(others, clone, "speaker_cosine")
    bench.check("exam_like_another", nearest, lambda value: value > 0.0, 0.0)


def _gain(before: JsonDict, after: JsonDict, figure: str) -> float | None:
    known = before[figure] is not None and after[figure] is not None
    return float(after[figure] - before[figure]) if known else None


def verdict_of(failures: Sequence[Reason], unknown: Sequence[Reason]) -> str:
    return FAILED if failures else NEEDS_PERSON if unknown else PASSED


@dataclass(frozen=True)
class Standing:
    """How a candidate did, for the choice among several."""

    verdict: str
    merit: float

    @classmethod
    def of(cls, verdict: str, summary: JsonDict) -> Standing:
        """Merit: the share of the way to the speaker, minus the share of words misheard or dropped, plus quality."""
        clone = summary["clone"]
        errors = [error for error in clone["error"].values() if error is not None]
        misheard = sum(errors) / len(errors) if errors else 0.0
        alike = min(1.0, summary["closeness"] or 0.0)
        quality = QUALITY_WEIGHT * ((clone["dnsmos"] or 3.0) - 3.0)
        return cls(verdict, round(alike - misheard - (clone["dropped_share"] or 0.0) + quality, 4))


def choose_best(standings: Sequence[Standing]) -> int:
    """Index of the best: by verdict, then merit; of equals the later one, which learned longer."""
    ranked = [(_RANKS[one.verdict], one.merit, index) for index, one in enumerate(standings)]
    return max(ranked)[2]
