"""As whom the Wyoming door acts. The protocol has no credentials: the operator decides who reaches the door.

Bound to a token (`wyoming.token`, its public id), the door has that token's tenant and voices and ends with it.
Unbound it serves this machine only, and only as long as the HTTP doors trust the loopback, too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from appliance.callers import VOICES
from appliance.doors.sockets import is_loopback
from appliance.errors import Forbidden, NotAuthenticated, VoicedError
from appliance.events import ACTOR, REFUSED, Event
from appliance.security.permissions import may
from appliance.security.room import Security
from appliance.settings import Settings

DOOR = "wyoming"


@dataclass(frozen=True)
class Guest:
    """Whom a connection works for."""

    tenant: str
    client: str  # whoever shares one limit
    actor: str  # as the audit log names them
    voices: frozenset[str]  # empty: every voice of the tenant

    def enter(self) -> None:
        """The present task works for this guest from now on."""
        ACTOR.set(self.actor)
        VOICES.set(self.voices)


class Rights:
    """Asked anew for every request: a token may be revoked, a tenant disabled while a connection is open."""

    def __init__(self, settings: Settings, security: Security) -> None:
        self._settings = settings
        self._security = security
        self._refusals: Counter[str] = Counter()

    def check_binding(self) -> None:
        """Whether anybody could be served.

        Raises NotAuthenticated (wyoming_not_…, token_…, tenant_disabled), Forbidden (role_…, door_not_allowed).
        """
        door = self._settings.wyoming
        if door.token:
            self._holder("")
        elif not is_loopback(door.host):
            raise NotAuthenticated("wyoming_not_bound", host=door.host)
        elif not self._security.trusts_loopback(self._settings):
            raise NotAuthenticated("wyoming_not_trusted")

    def admit(self, address: str) -> Guest:
        """Who `address` (of the peer) is. Raises Forbidden("network_not_allowed") and like `check_binding`."""
        try:
            self._check_network(address)
            self.check_binding()
        except VoicedError as error:
            self._note(error, address)
            raise
        if self._settings.wyoming.token:
            return self._holder(address)
        return Guest(self._settings.tenant, f"{DOOR}@{address}", DOOR, frozenset())

    def _holder(self, address: str) -> Guest:
        token = self._security.tokens.named(self._settings.wyoming.token)
        if not self._security.tenants.is_active(token.tenant):
            raise NotAuthenticated("tenant_disabled", tenant=token.tenant)
        if not may(token.role, "speak"):
            raise Forbidden("role_not_allowed", role=token.role, operation="speak")
        if token.doors and DOOR not in token.doors:
            raise Forbidden("door_not_allowed", door=DOOR, allowed=sorted(token.doors))
        return Guest(token.tenant, f"token:{token.id}@{address}", f"token:{token.id}", frozenset(token.voices))

    def _check_network(self, text: str) -> None:
        address, networks = _address(text), self._settings.wyoming.networks
        is_near = address.is_private or address.is_link_local or address.is_loopback
        if not (any(address in network for network in networks) if networks else is_near):
            raise Forbidden("network_not_allowed", address=text)

    def _note(self, error: VoicedError, address: str) -> None:
        """The 1st, 2nd, 4th, … refusal of a kind: knocking must not fill the log."""
        self._refusals[error.code] += 1
        count = self._refusals[error.code]
        if count & (count - 1) == 0:
            details: dict[str, str | int] = {"door": DOOR, "code": error.code, "count": count, "address": address}
            self._security.audit.note(Event("", "access.refused", outcome=REFUSED, details=details, actor="nobody"))


def _address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
