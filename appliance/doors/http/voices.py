"""`/v1/voices` and `/v1/consents`: what may speak on this box, in which version, with whose agreement."""

from __future__ import annotations

from aiohttp import web

from appliance.assembly import NewAssembly
from appliance.callers import may_use
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page, as_json
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.recording_schemas import ConsentAsked, ConsentsTold, ConsentTold
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.schemas import PageQuery
from appliance.doors.http.services import services_of
from appliance.doors.http.uploads import receive_upload
from appliance.doors.http.versions import find_version
from appliance.doors.http.voice_schemas import (
    PromoteAsked,
    VersionsTold,
    VersionTold,
    VoiceAsked,
    VoicesTold,
    VoiceTold,
)
from appliance.voices.records import NewConsent


async def list_voices(request: web.Request) -> web.Response:
    """`GET /v1/voices`."""
    asked = read_query(request, PageQuery)
    page = await services_of(request).registry.list_voices(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page([voice for voice in page.items if may_use(voice.id)], page.next)


async def get_voice(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice}`."""
    registry = services_of(request).registry
    return answer_json(as_json(await registry.get_voice(principal_of(request).tenant, request.match_info["voice"])))


async def add_voice(request: web.Request) -> web.Response:
    """`POST /v1/voices`: a voice from imported weights and a reference clip (the part `file`)."""
    services, tenant = services_of(request), principal_of(request).tenant
    async with receive_upload(request, VoiceAsked) as upload:
        asked = upload.asked
        weights = tuple(part.strip() for part in asked.weights.split(",") if part.strip())
        new = NewAssembly(
            voice=asked.id,
            weights=weights,
            reference=upload.path,
            transcript=asked.transcript,
            language=asked.language,
            title=asked.title,
            speaker=asked.speaker,
            engine=asked.engine,
        )
        version = await services.assembly.assemble(tenant, new)
    location = {"Location": f"/v1/voices/{version.voice}/versions/{version.number}"}
    return answer_json(as_json(version), status=201, headers=location)


async def delete_voice(request: web.Request) -> web.Response:
    """`DELETE /v1/voices/{voice}`: it stops speaking; its versions stay on record."""
    services, tenant, voice = services_of(request), principal_of(request).tenant, request.match_info["voice"]
    await services.registry.delete_voice(tenant, voice)
    await services.synthesis.forget(tenant, voice)
    return web.Response(status=204)


async def list_versions(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice}/versions`."""
    registry, tenant = services_of(request).registry, principal_of(request).tenant
    return answer_page(await registry.versions(tenant, request.match_info["voice"]), None)


async def get_version(request: web.Request) -> web.Response:
    """`GET /v1/voices/{voice}/versions/{number}`."""
    return answer_json(as_json(await find_version(request)))


async def promote(request: web.Request) -> web.Response:
    """`POST /v1/voices/{voice}/promote`: from now on `speaker=voice` means this version."""
    asked = await read_record(request, PromoteAsked)
    principal, voice = principal_of(request), request.match_info["voice"]
    reason = asked.reason or "promoted"
    registry = services_of(request).registry
    moved = await registry.promote(principal.tenant, voice, asked.version, reason=reason, actor=principal.actor)
    return answer_json(as_json(moved))


async def list_consents(request: web.Request) -> web.Response:
    """`GET /v1/consents`."""
    asked = read_query(request, PageQuery)
    page = await services_of(request).consents.list(principal_of(request).tenant, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def record_consent(request: web.Request) -> web.Response:
    """`POST /v1/consents`."""
    asked = await read_record(request, ConsentAsked)
    consent = await services_of(request).consents.record(
        principal_of(request).tenant,
        NewConsent(
            speaker=asked.speaker,
            voice=asked.voice,
            purposes=tuple(asked.purposes),
            statement=asked.statement,
            evidence=asked.evidence,
            expires_at=asked.expires_at,
        ),
    )
    return answer_json(as_json(consent), status=201)


async def revoke_consent(request: web.Request) -> web.Response:
    """`DELETE /v1/consents/{consent}`: revoked, with the time; the row stays as evidence."""
    services, tenant = services_of(request), principal_of(request).tenant
    consent = await services.consents.revoke(tenant, request.match_info["consent"])
    await services.synthesis.forget(tenant, consent.voice or None)  # without a voice it was about all of the speaker's
    return answer_json(as_json(consent))


ROUTES = (
    Route(
        "GET", "/v1/voices", list_voices, "List voices", "voices", (Answer(200, "voices", VoicesTold),), query=PageQuery
    ),
    Route("GET", "/v1/voices/{voice}", get_voice, "One voice", "voices", (Answer(200, "the voice", VoiceTold),)),
    Route(
        "POST",
        "/v1/voices",
        add_voice,
        "Make a voice from imported weights and a reference clip",
        "voices",
        (Answer(201, "its version, which speaks from now on", VersionTold),),
        query=VoiceAsked,
        body=Body(content_types=("multipart/form-data", "audio/*", "application/octet-stream")),
    ),
    Route("DELETE", "/v1/voices/{voice}", delete_voice, "Retire a voice", "voices", (Answer(204, "gone"),)),
    Route(
        "GET",
        "/v1/voices/{voice}/versions",
        list_versions,
        "Versions of a voice",
        "voices",
        (Answer(200, "versions, oldest first", VersionsTold),),
    ),
    Route(
        "GET",
        "/v1/voices/{voice}/versions/{number}",
        get_version,
        "One version of a voice",
        "voices",
        (Answer(200, "the version", VersionTold),),
    ),
    Route(
        "POST",
        "/v1/voices/{voice}/promote",
        promote,
        "Make a version the one that speaks",
        "voices",
        (Answer(200, "the voice", VoiceTold),),
        body=Body(PromoteAsked),
    ),
    Route(
        "GET",
        "/v1/consents",
        list_consents,
        "List consents",
        "consents",
        (Answer(200, "consents", ConsentsTold),),
        query=PageQuery,
    ),
    Route(
        "POST",
        "/v1/consents",
        record_consent,
        "Record what a speaker agreed to",
        "consents",
        (Answer(201, "the consent", ConsentTold),),
        body=Body(ConsentAsked),
    ),
    Route(
        "DELETE",
        "/v1/consents/{consent}",
        revoke_consent,
        "Revoke a consent",
        "consents",
        (Answer(200, "the revoked consent", ConsentTold),),
    ),
)
