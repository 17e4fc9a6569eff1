"""Voices from imported weights and a reference clip: permission -> pair -> helpers -> clip -> version in production."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.contracts import QualityReport, Reason
from appliance.engine.gpt_sovits.pairing import (
    ENGINE,
    LANGUAGES,
    LONGEST_S,
    SAMPLE_RATE,
    SHORTEST_S,
    TITLES,
    check_pair,
    helpers_of,
)
from appliance.errors import Forbidden, InvalidInput, NotFound, Unavailable
from appliance.vault.keys import VOICE, owner_of
from appliance.voices.blobs import BlobStore
from appliance.voices.consents import ConsentStore
from appliance.voices.gate import VoiceGate
from appliance.voices.models import Model, ModelStore
from appliance.voices.records import NewVersion, NewVoice, VoiceVersion, is_voice_id
from appliance.voices.registry import VoiceRegistry
from appliance.workers import WorkerPool

_LENGTH_CODES = frozenset({"recording_too_short", "audio_too_long"})  # the clip has its own limits


@dataclass(frozen=True)
class NewAssembly:
    """A voice to be made, or its next version."""

    voice: str
    weights: tuple[str, ...]  # ids or names of one s1 and one s2
    reference: Path  # the clip whose voice it will be; read, never moved
    transcript: str = ""  # what the clip says; empty: the box listens
    language: str = "auto"  # of the clip
    title: str = ""
    speaker: str = ""
    engine: str = ENGINE


@dataclass(frozen=True)
class AssemblyRooms:
    registry: VoiceRegistry
    models: ModelStore
    consents: ConsentStore
    blobs: BlobStore
    pool: WorkerPool
    gate: VoiceGate


class VoiceAssembly:
    """Makes voices without training."""

    def __init__(self, rooms: AssemblyRooms) -> None:
        self._rooms = rooms

    async def assemble(self, tenant: str, new: NewAssembly) -> VoiceVersion:
        """File the version and let it speak.

        Raises InvalidInput (voice_id_invalid, language_unknown, engine_takes_no_weights, model_kind_wrong,
        model_pair_wrong, model_ambiguous, reference_refused, transcript_missing), NotFound (model_not_imported,
        model_helper_missing), Forbidden (consent_…, starter_voice_protected).
        """
        await self._check(tenant, new)
        models = await find_models(self._rooms.models, tenant, new.weights)
        report = await self._judge(new.reference)
        await self._rooms.gate.require_clip(tenant, new.voice, new.speaker, new.reference)
        transcript, language = await self._label(new)
        owner = await self._rooms.registry.owner_of(tenant, new.voice)
        owner = owner or owner_of(tenant, new.speaker, VOICE, new.voice)
        reference = await asyncio.to_thread(self._rooms.blobs.put_file, new.reference, owner)
        files = {"reference": reference}
        for kind, model in models.items():
            files |= {kind: model.files["weights"], f"{kind}_config": model.files["config"]}
        version = NewVersion(
            engine=new.engine,
            files=files,
            settings={"transcript": transcript, "language": language, "sample_rate": SAMPLE_RATE},
            metrics={"reference": dict(report.measures)},
            lineage={"base": models["s2"].version, "weights": {kind: model.id for kind, model in models.items()}},
        )
        await self._ensure_voice(tenant, new)
        filed = await self._rooms.registry.add_version(tenant, new.voice, version)
        await self._rooms.registry.promote(tenant, new.voice, filed.number, reason="added with imported weights")
        return filed

    async def _check(self, tenant: str, new: NewAssembly) -> None:
        if not is_voice_id(new.voice):
            raise InvalidInput("voice_id_invalid", voice=new.voice[:80])
        if new.engine != ENGINE:
            raise InvalidInput("engine_takes_no_weights", engine=new.engine[:80])
        if new.language not in ("auto", *LANGUAGES):
            raise InvalidInput("language_unknown", language=new.language[:20], known=", ".join(("auto", *LANGUAGES)))
        with contextlib.suppress(NotFound):
            if (await self._rooms.registry.get_voice(tenant, new.voice)).origin == "starter":
                raise Forbidden("starter_voice_protected", voice=new.voice)
        await self._rooms.consents.require(tenant, new.voice, "clone")

    async def _judge(self, clip: Path) -> QualityReport:
        """Raises InvalidInput("reference_refused") with all reasons."""
        report = await self._rooms.pool.check(clip)
        reasons = [reason for reason in report.reasons if reason.code not in _LENGTH_CODES]
        duration_s = report.measures.get("duration_s")
        if duration_s is not None:
            measured = {"duration_s": duration_s, "shortest_s": SHORTEST_S, "longest_s": LONGEST_S}
            if duration_s < SHORTEST_S:
                reasons.append(Reason("reference_too_short", measured))
            elif duration_s > LONGEST_S:
                reasons.append(Reason("reference_too_long", measured))
        reasons = reasons or list(report.reasons if duration_s is None else ())
        if reasons:
            raise InvalidInput("reference_refused", reasons=reasons, warnings=report.warnings, **dict(report.measures))
        return replace(report, accepted=True, reasons=())

    async def _label(self, new: NewAssembly) -> tuple[str, str]:
        if new.transcript.strip():
            return new.transcript.strip(), new.language
        try:
            heard = await self._rooms.pool.transcribe(new.reference, None if new.language == "auto" else new.language)
        except Unavailable as error:
            raise InvalidInput("transcript_missing") from error
        return heard.text, heard.language if new.language == "auto" else new.language

    async def _ensure_voice(self, tenant: str, new: NewAssembly) -> None:
        try:
            await self._rooms.registry.get_voice(tenant, new.voice)
        except NotFound:
            voice = NewVoice(new.voice, new.title, languages=LANGUAGES, speaker=new.speaker)
            await self._rooms.registry.create_voice(tenant, voice)


async def find_models(store: ModelStore, tenant: str, weights: Sequence[str]) -> dict[str, Model]:
    """By kind: the s1 and the s2 that `weights` names, checked against each other, and the helpers they need.

    Raises InvalidInput (model_kind_wrong, model_pair_wrong, model_ambiguous), NotFound (model_not_imported,
    model_helper_missing).
    """
    named = [await store.get(tenant, spec) for spec in weights]
    models = {model.kind: model for model in named}
    if len(named) != 2 or models.keys() != {"s1", "s2"}:
        strange = next((model for model in named if model.kind not in {"s1", "s2"}), named[0] if named else None)
        name, kind = (strange.name, strange.kind) if strange else ("–", "–")
        raise InvalidInput("model_kind_wrong", model=name, kind=kind)
    check_pair(models["s1"].version, models["s2"].version)
    for kind in helpers_of(models["s2"].version):
        helper = await store.newest(tenant, kind)
        if helper is None:
            raise NotFound("model_helper_missing", kind=kind, title=TITLES[kind])
        models[kind] = helper
    return models
