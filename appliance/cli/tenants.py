"""`voiced tenants` and `voiced tokens`: who shares the box, and with which credentials."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action
from appliance.policies import PURPOSES

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal
    from appliance.contracts import JsonDict

QUOTAS = ("characters_per_day", "jobs", "storage_mb", "concurrent")
TENANT_COLUMNS = ("id", "title", "created_at", "disabled_at")
TOKEN_COLUMNS = ("id", "title", "role", "expires_at", "revoked_at", "last_used_at")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    if name == "tenants":
        _configure_tenants(actions)
    else:
        _configure_tokens(actions)


def _configure_tenants(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add_action(actions, "list", "tenants of this box", list_tenants)
    added = add_action(actions, "add", "make a tenant", add_tenant)
    added.add_argument("tenant", help="small letters, digits and -")
    added.add_argument("--title", default="")
    for quota in QUOTAS:
        added.add_argument(f"--{quota.replace('_', '-')}", type=int, dest=quota, help="quota; default: no limit")
    ruled = add_action(actions, "policy", "what a tenant demands of consents; without options: show it", rule_tenant)
    ruled.add_argument("tenant")
    ruled.add_argument("--spoken-for", action="append", choices=PURPOSES, help="the speaker has to say it; repeat")
    ruled.add_argument("--exclude", action="append", choices=PURPOSES, help="nobody may agree to it; repeat")
    ruled.add_argument("--longest-days", type=int, help="after which a consent ends in any case")
    ruled.add_argument("--by-person", action="store_true", help="a passed examination promotes no voice")
    ruled.add_argument("--clear", action="store_true", help="nothing more than the box demands")
    for action, summary in (("disable", "shut a tenant out"), ("enable", "let a tenant in again")):
        changed = add_action(actions, action, summary, switch_tenant)
        changed.add_argument("tenant")
        changed.set_defaults(is_disabled=action == "disable")


def _configure_tokens(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add_action(actions, "list", "tokens of this tenant", list_tokens)
    added = add_action(actions, "add", "issue a token; it is shown once", add_token)
    added.add_argument("title", help="what it is for")
    added.add_argument("--role", default="developer", help="see docs/security.md")
    added.add_argument("--tenant", help="for another tenant (owner of the box only)")
    added.add_argument("--voice", action="append", default=[], help="limit it to a voice; repeat for more")
    added.add_argument("--door", action="append", default=[], help="limit it to a door; repeat for more")
    added.add_argument("--days", type=float, help="until it expires; default: never")
    rotated = add_action(actions, "rotate", "a new secret; the old one is taken a while longer", rotate_token)
    rotated.add_argument("id")
    rotated.add_argument("--overlap", type=int, default=3600, metavar="SECONDS")
    revoked = add_action(actions, "revoke", "from now on it opens nothing", revoke_token)
    revoked.add_argument("id")


def list_tenants(terminal: Terminal) -> int:
    return _listed(terminal, "/v1/tenants", TENANT_COLUMNS)


def add_tenant(terminal: Terminal) -> int:
    given = terminal.arguments
    quota = {name: getattr(given, name) for name in QUOTAS}
    made = terminal.client.post("/v1/tenants", {"id": given.tenant, "title": given.title, "quota": quota})
    return _told(terminal, made, "cli.tenant_added")


def rule_tenant(terminal: Terminal) -> int:
    given, path = terminal.arguments, f"/v1/tenants/{quote(terminal.arguments.tenant)}"
    policy: JsonDict = {
        "spoken_for": given.spoken_for or [],
        "excluded": given.exclude or [],
        "longest_days": given.longest_days,
        "by_person": given.by_person,
    }
    if given.clear or any(policy.values()):
        tenant = terminal.client.patch(path, {"policy": policy})
    else:
        tenant = terminal.client.get(path)
    if terminal.as_json:
        terminal.document(tenant)
    else:
        rows = [[name, _words(tenant["policy"][name]), _words(value)] for name, value in tenant["in_force"].items()]
        terminal.table(("demand", "own_rule", "in_force"), rows)
    return 0


def _words(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else "" if value in (None, False) else str(value)


def switch_tenant(terminal: Terminal) -> int:
    given = terminal.arguments
    changed = terminal.client.patch(f"/v1/tenants/{quote(given.tenant)}", {"is_disabled": given.is_disabled})
    return _told(terminal, changed, "cli.tenant_disabled" if given.is_disabled else "cli.tenant_enabled")


def list_tokens(terminal: Terminal) -> int:
    return _listed(terminal, "/v1/tokens", TOKEN_COLUMNS)


def add_token(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {"title": given.title, "role": given.role, "voices": given.voice, "doors": given.door}
    if given.tenant:
        order["tenant"] = given.tenant
    if given.days is not None:
        order["expires_in_s"] = round(given.days * 86_400)
    return _secret(terminal, terminal.client.post("/v1/tokens", order))


def rotate_token(terminal: Terminal) -> int:
    given = terminal.arguments
    path = f"/v1/tokens/{quote(given.id)}/rotate"
    return _secret(terminal, terminal.client.post(path, {"overlap_s": given.overlap}))


def revoke_token(terminal: Terminal) -> int:
    revoked = terminal.client.delete(f"/v1/tokens/{quote(terminal.arguments.id)}")
    return _told(terminal, revoked, "cli.token_revoked")


def _listed(terminal: Terminal, path: str, columns: tuple[str, ...]) -> int:
    rows = list(terminal.client.items(path))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
    else:
        terminal.table(columns, [[row.get(column) for column in columns] for row in rows])
    return 0


def _secret(terminal: Terminal, issued: JsonDict) -> int:
    """The token alone on stdout, so that a script can take it."""
    if terminal.as_json:
        terminal.document(issued)
        return 0
    terminal.tell("cli.token_shown", id=issued["id"], role=issued["role"])
    print(issued["token"])
    return 0


def _told(terminal: Terminal, document: JsonDict, sentence: str) -> int:
    if terminal.as_json:
        terminal.document(document)
    terminal.tell(sentence, id=document["id"])
    return 0
