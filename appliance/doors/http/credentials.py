"""`/v1/tokens`, `/v1/people` and `/v1/session`: who may come in, and coming in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from aiohttp import web

from appliance.doors.http.access import SESSION_COOKIE, principal_of, refuse_foreign_pages
from appliance.doors.http.answers import answer_json, answer_page, as_json
from appliance.doors.http.bodies import read_record
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.security_schemas import (
    PeopleTold,
    PersonAsked,
    PersonChange,
    PersonTold,
    RotateAsked,
    SessionTold,
    SignInAsked,
    TokenAsked,
    TokenShown,
    TokensTold,
    TokenTold,
)
from appliance.doors.http.services import Services, services_of
from appliance.errors import Forbidden, NotAuthenticated
from appliance.events import REFUSED, Event
from appliance.security.people import SESSION_S
from appliance.security.permissions import ROLES, covers, may
from appliance.security.room import Security
from appliance.security.tokens import NewToken, Token


async def list_tokens(request: web.Request) -> web.Response:
    """`GET /v1/tokens`."""
    return answer_page(services_of(request).security.tokens.list(principal_of(request).tenant), None)


async def issue_token(request: web.Request) -> web.Response:
    """`POST /v1/tokens`: the only answer that holds the secret."""
    asked, principal, security = await read_record(request, TokenAsked), principal_of(request), _security(request)
    _require_cover(request, asked.role)
    tenant = asked.tenant or principal.tenant
    if tenant != principal.tenant and not may(principal.role, "tenants.write"):
        raise Forbidden("role_not_allowed", role=principal.role, operation="tenants.write")
    security.tenants.get(tenant)
    voices = tuple(asked.voices) or tuple(sorted(principal.voices))  # nobody hands out more than they have
    doors = tuple(asked.doors) or tuple(sorted(principal.doors))
    _require_scope(request, voices, doors)
    new = NewToken(asked.title, asked.role, voices, doors, _moment_in(asked.expires_in_s))
    return _shown(*await security.tokens.issue(tenant, new), status=201)


async def get_token(request: web.Request) -> web.Response:
    """`GET /v1/tokens/{token}`."""
    tokens = _security(request).tokens
    return answer_json(as_json(tokens.get(principal_of(request).tenant, request.match_info["token"])))


async def rotate_token(request: web.Request) -> web.Response:
    """`POST /v1/tokens/{token}/rotate`."""
    asked, tokens, tenant = await read_record(request, RotateAsked), _security(request).tokens, _tenant(request)
    token = _token(request)
    return _shown(*await tokens.rotate(tenant, token.id, asked.overlap_s))


async def revoke_token(request: web.Request) -> web.Response:
    """`DELETE /v1/tokens/{token}`."""
    return answer_json(as_json(await _security(request).tokens.revoke(_tenant(request), _token(request).id)))


async def list_people(request: web.Request) -> web.Response:
    """`GET /v1/people`."""
    return answer_page(_security(request).people.list(_tenant(request)), None)


async def add_person(request: web.Request) -> web.Response:
    """`POST /v1/people`."""
    asked = await read_record(request, PersonAsked)
    _require_cover(request, asked.role)
    _require_scope(request)
    people = _security(request).people
    person = await people.add(_tenant(request), asked.login, asked.name, asked.role, asked.password)
    return answer_json(as_json(person), status=201, headers={"Location": f"/v1/people/{person.id}"})


async def change_person(request: web.Request) -> web.Response:
    """`PATCH /v1/people/{person}`: another role or password; signs that person out."""
    asked, people, person = await read_record(request, PersonChange), _security(request).people, _person(request)
    if asked.role:
        _require_cover(request, asked.role)
    return answer_json(as_json(await people.change(_tenant(request), person, role=asked.role, password=asked.password)))


async def disable_person(request: web.Request) -> web.Response:
    """`DELETE /v1/people/{person}`."""
    person = _person(request)
    return answer_json(as_json(await _security(request).people.disable(_tenant(request), person)))


async def sign_in(request: web.Request) -> web.Response:
    """`POST /v1/session`: a cookie that scripts cannot read and other sites cannot send."""
    refuse_foreign_pages(request)
    asked, services = await read_record(request, SignInAsked), services_of(request)
    try:
        person, cookie = await services.security.people.sign_in(asked.login, asked.password, request.remote or "")
    except NotAuthenticated as error:
        _note_guess(services, error, request.remote or "")
        raise
    actor = f"person:{person.id}"
    services.audit.note(Event(person.tenant, "session.open", subject=person.id, actor=actor))
    answer = _session(person.tenant, person.role, actor, status=201)
    answer.set_cookie(
        SESSION_COOKIE, cookie, max_age=SESSION_S, path="/", httponly=True, samesite="Strict", secure=request.secure
    )
    return answer


def _note_guess(services: Services, error: NotAuthenticated, address: str) -> None:
    count = services.security.people.wrong_guesses(address)
    if count & (count - 1) == 0:  # the 1st, 2nd, 4th, …: guessing must not fill the log
        details: dict[str, str | int] = {"code": error.code, "count": count, "address": address}
        services.audit.note(Event("", "session.refused", outcome=REFUSED, details=details, actor="nobody"))


async def get_session(request: web.Request) -> web.Response:
    """`GET /v1/session`: who the box takes the caller for."""
    principal = principal_of(request)
    return _session(principal.tenant, principal.role, principal.actor)


async def sign_out(request: web.Request) -> web.Response:
    """`DELETE /v1/session`."""
    _security(request).people.sign_out(request.cookies.get(SESSION_COOKIE, ""))
    answer = web.Response(status=204)
    answer.del_cookie(SESSION_COOKIE, path="/")
    return answer


def _security(request: web.Request) -> Security:
    return services_of(request).security


def _tenant(request: web.Request) -> str:
    return principal_of(request).tenant


def _person(request: web.Request) -> str:
    """The id in the path, once it is sure that the caller may do no less than that person."""
    person = services_of(request).security.people.get(_tenant(request), request.match_info["person"])
    _require_cover(request, person.role)
    _require_scope(request)
    return person.id


def _token(request: web.Request) -> Token:
    """The token in the path, once it is sure that the caller may do no less than its holder."""
    token = _security(request).tokens.get(_tenant(request), request.match_info["token"])
    _require_cover(request, token.role)
    _require_scope(request, token.voices, token.doors)
    return token


def _require_cover(request: web.Request, role: str) -> None:
    mine = principal_of(request).role
    if not covers(mine, role):
        raise Forbidden("role_too_high", role=mine, asked=role)


def _require_scope(request: web.Request, voices: Sequence[str] = (), doors: Sequence[str] = ()) -> None:
    """Nobody gives away a voice or a door that they do not have; none named: all of them, as people have."""
    principal = principal_of(request)
    for mine, theirs in ((principal.voices, set(voices)), (principal.doors, set(doors))):
        if mine and not (theirs and theirs <= mine):
            raise Forbidden("scope_too_wide")


def _session(tenant: str, role: str, actor: str, status: int = 200) -> web.Response:
    return answer_json(
        {"tenant": tenant, "role": role, "actor": actor, "operations": sorted(ROLES.get(role, ()))}, status
    )


def _shown(token: Token, secret: str, status: int = 200) -> web.Response:
    location = {"Location": f"/v1/tokens/{token.id}"}
    return answer_json({**token.as_json(), "token": secret}, status=status, headers=location)


def _moment_in(seconds: int | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


_TOKEN, _PERSON, _SESSION = "/v1/tokens/{token}", "/v1/people/{person}", "/v1/session"

ROUTES = (
    Route("GET", "/v1/tokens", list_tokens, "List tokens", "access", (Answer(200, "tokens", TokensTold),)),
    Route(
        "POST",
        "/v1/tokens",
        issue_token,
        "Issue a token; its secret is shown once",
        "access",
        (Answer(201, "the token and its secret", TokenShown),),
        body=Body(TokenAsked),
    ),
    Route("GET", _TOKEN, get_token, "One token", "access", (Answer(200, "the token", TokenTold),)),
    Route(
        "POST",
        f"{_TOKEN}/rotate",
        rotate_token,
        "A new secret; the old one is taken a while longer",
        "access",
        (Answer(200, "the token and its new secret", TokenShown),),
        body=Body(RotateAsked, is_required=False),
    ),
    Route("DELETE", _TOKEN, revoke_token, "Revoke a token", "access", (Answer(200, "the token", TokenTold),)),
    Route("GET", "/v1/people", list_people, "List people", "access", (Answer(200, "people", PeopleTold),)),
    Route(
        "POST",
        "/v1/people",
        add_person,
        "Give somebody a login",
        "access",
        (Answer(201, "the person", PersonTold),),
        body=Body(PersonAsked),
    ),
    Route(
        "PATCH",
        _PERSON,
        change_person,
        "Another role or password",
        "access",
        (Answer(200, "the person", PersonTold),),
        body=Body(PersonChange),
    ),
    Route("DELETE", _PERSON, disable_person, "End a login", "access", (Answer(200, "the person", PersonTold),)),
    Route(
        "POST",
        _SESSION,
        sign_in,
        "Sign in",
        "access",
        (Answer(201, "signed in; the cookie is set", SessionTold),),
        body=Body(SignInAsked),
        is_public=True,
    ),
    Route("GET", _SESSION, get_session, "Who am I?", "access", (Answer(200, "the caller", SessionTold),)),
    Route("DELETE", _SESSION, sign_out, "Sign out", "access", (Answer(204, "signed out"),)),
)
