"""What a tenant, or the box, demands of consents beyond what every box demands; the stricter of both counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from appliance.contracts import JsonDict

PURPOSES = ("clone", "speak", "announce", "publish", "share")  # what a speaker can agree to


@dataclass(frozen=True)
class ConsentPolicy:
    """The empty one demands nothing more. No field can allow what another policy forbids."""

    spoken_for: tuple[str, ...] = ()  # purposes for which the speaker has to say it aloud: a written consent counts not
    excluded: tuple[str, ...] = ()  # purposes that nobody may agree to here
    longest_days: int | None = None  # consents end, at the latest, so long after they were given
    by_person: bool = False  # a passed examination promotes no voice: a person does

    def joined(self, other: ConsentPolicy) -> ConsentPolicy:
        """What both demand together."""
        limits = [days for days in (self.longest_days, other.longest_days) if days is not None]
        return ConsentPolicy(
            spoken_for=tuple(one for one in PURPOSES if one in self.spoken_for + other.spoken_for),
            excluded=tuple(one for one in PURPOSES if one in self.excluded + other.excluded),
            longest_days=min(limits, default=None),
            by_person=self.by_person or other.by_person,
        )

    def as_json(self) -> JsonDict:
        return asdict(self)

    def described(self) -> dict[str, str | int | bool | None]:
        """For the audit log: plain values."""
        spoken, excluded = " ".join(self.spoken_for), " ".join(self.excluded)
        return {**asdict(self), "spoken_for": spoken, "excluded": excluded}

    @classmethod
    def from_json(cls, row: JsonDict) -> ConsentPolicy:
        """As `as_json` wrote it; what is not there is not demanded."""
        return cls(
            spoken_for=tuple(row.get("spoken_for", ())),
            excluded=tuple(row.get("excluded", ())),
            longest_days=row.get("longest_days"),
            by_person=bool(row.get("by_person", False)),
        )
