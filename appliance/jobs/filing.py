"""What becomes of a finished clone: blobs, a new immutable version with its lineage, and the alias if it passed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from appliance import __version__
from appliance.contracts import JsonDict
from appliance.errors import NotFound
from appliance.jobs.records import Job
from appliance.settings import CloneSettings
from appliance.vault.keys import Owner
from appliance.voices.blobs import BlobStore, digest_of
from appliance.voices.consents import ConsentStore
from appliance.voices.records import NewVersion, NewVoice, VoiceVersion
from appliance.voices.registry import VoiceRegistry


class Filing:
    """Files results. Doing it twice for one job gives one version."""

    def __init__(
        self, registry: VoiceRegistry, blobs: BlobStore, consents: ConsentStore, limits: CloneSettings
    ) -> None:
        self._registry = registry
        self._blobs = blobs
        self._consents = consents
        self._limits = limits

    async def file(self, job: Job, outcome: JsonDict) -> JsonDict:
        """The result of the job: voice, version, whether it speaks now, and the examination. Raises StorageFull."""
        version = await self._filed_before(job) or await self._file_version(job, outcome)
        exam = version.metrics["exam"]
        is_promoted = bool(exam["passed"]) and not await self._needs_person(job.tenant)
        if is_promoted:
            await self._registry.promote(
                job.tenant, version.voice, version.number, reason=f"passed its examination ({job.id})"
            )
        return {
            "voice": version.voice,
            "version": version.number,
            "spec": version.spec,
            "base": version.lineage["base"],
            "dataset": version.lineage["dataset"],
            "verdict": exam["verdict"],
            "passed": exam["passed"],
            "promoted": is_promoted,
            "adaptation": version.metrics["adaptation"],
            "exam": exam,
        }

    async def _needs_person(self, tenant: str) -> bool:
        """By the box's settings or the tenant's policy."""
        return self._limits.needs_person(tenant) or (await self._consents.policy(tenant)).by_person

    async def _filed_before(self, job: Job) -> VoiceVersion | None:
        """The version of a run whose daemon died between filing it and ending the job."""
        try:
            versions = await self._registry.versions(job.tenant, job.spec["voice"])
        except NotFound:
            return None
        return next((version for version in versions if version.lineage.get("job") == job.id), None)

    async def _file_version(self, job: Job, outcome: JsonDict) -> VoiceVersion:
        spec = job.spec
        await self._ensure_voice(job)
        owner = await self._registry.owner_of(job.tenant, spec["voice"])
        files = {role: await self._file(Path(path), owner) for role, path in outcome["files"].items()}
        lineage = {
            "job": job.id,
            "dataset": spec["dataset"],
            "recordings": spec["recordings"],
            "clips": outcome["clips"],
            "base": outcome["base"],
            "weights": outcome["weights"],
            "code": __version__,
            "engine_version": outcome["engine_version"],
            "seed": spec["seed"],
            "steps": spec["steps"],
        }
        metrics = {"adaptation": outcome["metrics"], "exam": _with_digests(outcome["exam"], files)}
        version = NewVersion(spec["engine"], files, outcome["settings"], metrics, lineage)
        return await self._registry.add_version(job.tenant, spec["voice"], version)

    async def _file(self, path: Path, owner: Owner | None) -> str:
        """Weights that the clone took over from an import are nobody's: they lie here already, and stay as they are."""
        digest = await asyncio.to_thread(digest_of, path)
        if self._blobs.is_plain(digest):
            return digest
        return await asyncio.to_thread(self._blobs.put_file, path, owner)

    async def _ensure_voice(self, job: Job) -> None:
        spec = job.spec
        try:
            await self._registry.get_voice(job.tenant, spec["voice"])
        except NotFound:
            speaker, languages = spec["speaker"], tuple(spec["languages"])
            voice = NewVoice(spec["voice"], spec["title"], languages=languages, speaker=speaker)
            await self._registry.create_voice(job.tenant, voice)


def _with_digests(exam: JsonDict, files: dict[str, str]) -> JsonDict:
    """The report with the digest of each sentence's sound beside its figures."""
    rows = []
    for row in exam["sentences"]:
        number = row["number"]
        roles = {"clone": f"exam:{number}", "base": f"exam:base:{number}", "real": f"exam:real:{number}"}
        sounds = {side: files.get(role) for side, role in roles.items()}
        rows.append(row | {"audio": sounds})
    return exam | {"sentences": rows}
