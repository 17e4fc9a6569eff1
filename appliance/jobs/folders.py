"""The folders of jobs: what can be seen of a job in its folder, and what is taken from it when it has ended."""

from __future__ import annotations

import shutil
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.jobs.artifacts import CURVES, SAMPLES, Sample, list_samples, read_curves, sample_path
from appliance.jobs.importing import UPLOAD

GOES_AT_THE_END = ("clips", "work", "exam", "starters", "models", UPLOAD)


class JobFolders:
    """One folder per job below `root`, named by its id. Methods block."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def curves(self, job_id: str) -> tuple[JsonDict, ...]:
        """What the trainer measured; see `artifacts.read_curves`."""
        return read_curves(self._root / job_id / CURVES)

    def samples(self, job_id: str) -> tuple[Sample, ...]:
        """What the voice sounded like as it learnt, oldest first."""
        return list_samples(self._root / job_id / SAMPLES)

    def sample(self, job_id: str, name: str) -> Path:
        """One of them. Raises NotFound("job_sample_not_found")."""
        return sample_path(self._root / job_id / SAMPLES, name)

    def clear(self, job_id: str, *, keeps_samples: bool) -> None:
        """Sound, checkpoints and weights of a job that has ended are not kept; its log and curves are."""
        for name in (*GOES_AT_THE_END, *(() if keeps_samples else (SAMPLES,))):
            shutil.rmtree(self._root / job_id / name, ignore_errors=True)

    def sweep(self, keep: frozenset[str]) -> None:
        """Clear the folders of all jobs but those that are not over (ids `keep`)."""
        if self._root.is_dir():
            for folder in self._root.iterdir():
                if folder.name not in keep:
                    self.clear(folder.name, keeps_samples=True)
