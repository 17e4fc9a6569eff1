"""`voiced channels` and `voiced peers`: where publications go."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from appliance.announcer.records import PRIORITIES
from appliance.cli import add_action

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    if name == "peers":
        _configure_peers(actions)
        return
    add_action(actions, "list", "channels of the box", list_channels)
    put = add_action(actions, "set", "make a channel, or change it", set_channel)
    put.add_argument("channel")
    put.add_argument("kind", help="folder, webhook, peer, or what a plugin brings")
    put.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="e.g. path=prompts formats=ulaw,g722")
    put.add_argument("--script", action="append", default=[], help="only these scripts (default: all)")
    remove = add_action(actions, "remove", "send nothing there any more", remove_channel)
    remove.add_argument("channel")


def _configure_peers(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    add_action(actions, "list", "paired boxes", list_peers)
    invitation = add_action(actions, "invite", "a code to be typed into the other box", invite)
    _add_grant(invitation)
    pair = add_action(actions, "pair", "pair with a box that gave out a code", pair_with)
    pair.add_argument("box", help="its address: http://BOX:8790 (`voiced find` lists them)")
    pair.add_argument("code")
    _add_grant(pair)
    permit = add_action(actions, "allow", "say what a paired box may announce here (no zone: nothing)", allow)
    permit.add_argument("peer", help="its id")
    _add_grant(permit)
    remove = add_action(actions, "remove", "forget a box", remove_peer)
    remove.add_argument("peer", help="its id")


def _add_grant(action: argparse.ArgumentParser) -> None:
    action.add_argument("--zone", action="append", default=[], help="it may announce here (again for more; '*': all)")
    action.add_argument("--up-to", choices=PRIORITIES, default="normal", help="the most urgent priority it may use")


def _grant(terminal: Terminal) -> dict[str, Any]:
    return {"zones": terminal.arguments.zone, "priority": terminal.arguments.up_to}


def list_channels(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/channels"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    cells = [[row["id"], row["kind"], json.dumps(row["settings"]), ", ".join(row["scripts"]) or "*"] for row in rows]
    terminal.table(("id", "kind", "settings", "scripts"), cells)
    return 0


def set_channel(terminal: Terminal) -> int:
    given = terminal.arguments
    settings: dict[str, Any] = {}
    for setting in given.settings:
        name, _, value = setting.partition("=")
        settings[name] = [part.strip() for part in value.split(",")] if name == "formats" else value
    order = {"kind": given.kind, "settings": settings, "scripts": given.script}
    row = terminal.client.put(f"/v1/channels/{quote(given.channel, safe='')}", order)
    if terminal.as_json:
        terminal.document(row)
    terminal.tell("cli.channel_set", channel=row["id"], kind=row["kind"])
    return 0


def remove_channel(terminal: Terminal) -> int:
    channel = terminal.arguments.channel
    terminal.client.delete(f"/v1/channels/{quote(channel, safe='')}")
    if terminal.as_json:
        terminal.document({"deleted": channel})
    return 0


def list_peers(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/peers"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    columns = ("id", "name", "url", "fingerprint", "paired_at")
    cells = [[*(row[column] for column in columns), ", ".join(row["announce"]["zones"])] for row in rows]
    terminal.table((*columns, "announces"), cells)
    return 0


def invite(terminal: Terminal) -> int:
    invitation = terminal.client.post("/v1/peers/invitations", {"announce": _grant(terminal)})
    if terminal.as_json:
        terminal.document(invitation)
    minutes = invitation["expires_in_s"] // 60
    terminal.tell("cli.peer_invitation", code=invitation["code"], minutes=minutes, url=terminal.client.url)
    return 0


def pair_with(terminal: Terminal) -> int:
    given = terminal.arguments
    order = {"url": given.box, "code": given.code, "announce": _grant(terminal)}
    peer = terminal.client.post("/v1/peers", order)
    if terminal.as_json:
        terminal.document(peer)
    terminal.tell("cli.peer_paired", name=peer["name"], peer=peer["id"], fingerprint=peer["fingerprint"][:16])
    return 0


def allow(terminal: Terminal) -> int:
    path = f"/v1/peers/{quote(terminal.arguments.peer, safe='')}"
    peer = terminal.client.patch(path, {"announce": _grant(terminal)})
    if terminal.as_json:
        terminal.document(peer)
        return 0
    granted = peer["announce"]
    told = {"name": peer["name"], "zones": ", ".join(granted["zones"]), "priority": granted["priority"]}
    terminal.tell("cli.peer_allowed" if granted["zones"] else "cli.peer_forbidden", **told)
    return 0


def remove_peer(terminal: Terminal) -> int:
    peer = terminal.arguments.peer
    terminal.client.delete(f"/v1/peers/{quote(peer, safe='')}")
    if terminal.as_json:
        terminal.document({"deleted": peer})
    return 0
