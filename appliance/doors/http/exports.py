"""`POST /v1/voices/{voice}/export`: a voice leaves the box in files that other programs read. Nobody is locked in."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from appliance.contracts import VoiceAssets
from appliance.doors.http.access import principal_of
from appliance.doors.http.bodies import read_record
from appliance.doors.http.files import send_parts
from appliance.doors.http.job_schemas import ExportAsked
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.errors import InvalidInput
from appliance.events import Event

ZIP = "application/zip"


async def export_voice(request: web.Request) -> web.StreamResponse:
    """Both networks in one ZIP. The speaker's consent to cloning has to stand; the audit log knows who took what."""
    asked, services = await read_record(request, ExportAsked), services_of(request)
    tenant, voice = principal_of(request).tenant, request.match_info["voice"]
    version = await services.registry.resolve(tenant, voice, asked.version)
    if version.engine != ENGINE:
        raise InvalidInput("export_engine_wrong", voice=version.spec, engine=version.engine, format=asked.format)
    consent = await services.consents.require(tenant, version.voice, "clone")
    assets = await services.registry.assets(version)
    async with _pack(assets, f"{version.voice}-v{version.number}", services.settings.state_dir) as (path, digest):
        told = Event(
            tenant,
            "voice.export",
            voice=version.spec,
            consent=consent.id if consent else "",
            output_digest=digest,
            details={"format": asked.format},
        )
        await services.audit.record(told)
        headers = {"Content-Disposition": f'attachment; filename="{path.name}"', "X-Voice-Version": version.spec}
        return await send_parts(request, path, {**headers, "Content-Type": ZIP})


@contextlib.asynccontextmanager
async def _pack(assets: VoiceAssets, name: str, state_dir: Path) -> AsyncIterator[tuple[Path, str]]:
    """The ZIP and its SHA-256, on the disk of the state directory: it has room for such files."""
    with tempfile.TemporaryDirectory(dir=state_dir, prefix="export-") as folder:
        yield await asyncio.to_thread(_write_zip, assets, name, Path(folder))


def _write_zip(assets: VoiceAssets, name: str, folder: Path) -> tuple[Path, str]:
    from appliance.engine.gpt_sovits.official import export_pair

    pair = export_pair(name, assets.files, assets.settings.get("training") or {}, folder)
    path = folder / f"{name}-gpt-sovits.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in (pair.s1, pair.s2, assets.files["reference"]):
            archive.write(file, file.name if file.suffix else f"{name}-reference.wav")
    with path.open("rb") as stream:
        return path, hashlib.file_digest(stream, "sha256").hexdigest()


ROUTES = (
    Route(
        "POST",
        "/v1/voices/{voice}/export",
        export_voice,
        "Take a voice away",
        "voices",
        (Answer(200, "its files", content_type=ZIP),),
        body=Body(ExportAsked),
    ),
)
