"""What the runner needs to know of a kind of job: what its child is told, when it must end, what becomes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from appliance.contracts import JsonDict
from appliance.jobs.records import ChildSpec, Job


class JobKind(ABC):
    """One kind of job, on the daemon's side."""

    @abstractmethod
    async def child_spec(self, job: Job) -> ChildSpec:
        """What the child is told. Raises VoicedError when what it needs is gone."""

    @abstractmethod
    async def require(self, job: Job) -> None:
        """Raises Forbidden once the job may not go on."""

    @abstractmethod
    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        """Keep what the child made; returns the job's result. Doing it twice files it once. Raises StorageFull."""
