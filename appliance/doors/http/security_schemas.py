"""Records of the doors for tenants, tokens, people, sessions and the audit log."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from appliance.doors.http.schemas import VOICE_ID, Asked, PageQuery, Told
from appliance.policies import ConsentPolicy
from appliance.security.permissions import DOORS
from appliance.settings import Purpose

Role = Literal["owner", "tenant-admin", "voice-steward", "operator", "developer", "auditor", "device"]
TENANT_ID = r"^[a-z0-9][a-z0-9-]{0,62}$"
LONGEST_OVERLAP_S = 30 * 86_400


class QuotaAsked(Asked):
    characters_per_day: int | None = Field(None, ge=0, description="of text spoken, by UTC day; null: no limit")
    jobs: int | None = Field(None, ge=0, description="queued and running at once")
    storage_mb: int | None = Field(None, ge=0)
    concurrent: int | None = Field(None, ge=1, description="requests under way at once")


class PolicyAsked(Asked):
    """What a tenant demands of consents beyond what the box does; nothing here allows what the box forbids."""

    spoken_for: list[Purpose] = Field([], description="purposes for which the speaker has to say it aloud")
    excluded: list[Purpose] = Field([], description="purposes that nobody may agree to")
    longest_days: int | None = Field(None, ge=1, le=36_600, description="after which a consent ends in any case")
    by_person: bool = Field(False, description="a passed examination promotes no voice: a person does")

    def as_policy(self) -> ConsentPolicy:
        return ConsentPolicy.from_json(self.model_dump())


class TenantAsked(Asked):
    id: str = Field(pattern=TENANT_ID)
    title: str = Field("", max_length=200)
    quota: QuotaAsked = QuotaAsked()
    policy: PolicyAsked = PolicyAsked()


class TenantChange(Asked):
    quota: QuotaAsked | None = Field(None, description="replaces the whole quota")
    policy: PolicyAsked | None = Field(None, description="replaces the whole policy")
    is_disabled: bool | None = Field(None, description="true: its tokens and people are shut out")


class TenantTold(Told):
    id: str
    title: str
    quota: dict[str, int | None]
    policy: dict[str, Any]
    in_force: dict[str, Any]  # the policy together with what the box demands
    created_at: str
    disabled_at: str | None


class TenantsTold(Told):
    items: list[TenantTold]
    next: str | None


class TokenAsked(Asked):
    title: str = Field("", max_length=200)
    role: Role = "developer"
    tenant: str | None = Field(None, pattern=TENANT_ID, description="another tenant's; the owner of the box only")
    voices: list[str] = Field([], max_length=200, description="voice ids it is limited to; empty: all")
    doors: list[str] = Field([], description=f"doors it is limited to, of {', '.join([*DOORS, 'api'])}; empty: all")
    expires_in_s: int | None = Field(None, ge=1, le=10 * 366 * 86_400)

    @field_validator("doors")
    @classmethod
    def _known_doors(cls, doors: list[str]) -> list[str]:
        unknown = sorted(set(doors) - {*DOORS, "api"})
        if unknown:
            raise ValueError(f"no such door: {', '.join(unknown)[:80]!a}")
        return doors

    @field_validator("voices")
    @classmethod
    def _voice_ids(cls, voices: list[str]) -> list[str]:
        if not all(re.fullmatch(VOICE_ID, voice) for voice in voices):
            raise ValueError("voice ids without a version")
        return voices


class RotateAsked(Asked):
    overlap_s: int = Field(3600, ge=0, le=LONGEST_OVERLAP_S, description="how long the secret before is still taken")


class TokenTold(Told):
    id: str
    tenant: str
    title: str
    role: str
    voices: list[str]
    doors: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class TokenShown(TokenTold):
    token: str = Field(description="what a client must show; it is told this once")


class TokensTold(Told):
    items: list[TokenTold]
    next: str | None


class PersonAsked(Asked):
    login: str = Field(pattern=r"^[a-z0-9][a-z0-9._@-]{0,62}$")
    name: str = Field("", max_length=200)
    role: Role = "operator"
    password: str = Field(max_length=1000, description="12 to 256 characters")


class PersonChange(Asked):
    role: Role | None = None
    password: str | None = Field(None, max_length=1000)


class PersonTold(Told):
    id: str
    login: str
    name: str
    role: str
    created_at: str
    disabled_at: str | None


class PeopleTold(Told):
    items: list[PersonTold]
    next: str | None


class SignInAsked(Asked):
    login: str = Field(max_length=200)
    password: str = Field(max_length=1000)


class SessionTold(Told):
    tenant: str
    role: str
    actor: str
    operations: list[str]


class AuditQuery(PageQuery):
    voice: str | None = Field(None, max_length=80, description="a voice (all its versions) or one version of it")
    action: str | None = Field(None, max_length=80, description="what was done, for example `consent.revoke`")
    subject: str | None = Field(None, max_length=200, description="id of what it was done to")


class AuditTold(Told):
    items: list[dict[str, Any]]
    next: str | None


class CheckpointTold(Told):
    note: str
    key: str
    size: int
