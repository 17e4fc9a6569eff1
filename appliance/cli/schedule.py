"""`voiced schedule`: messages that are said again and again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import quote

from appliance.cli import add_action
from appliance.cli.speech import add_speech_options, message_of
from appliance.contracts import JsonDict

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

LISTS = ("times", "weekdays", "dates", "except_days")


def configure(_name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    add = add_action(actions, "add", "say a message at certain times", add_schedule)
    add_speech_options(add)
    add.add_argument("--name", help="what the schedule is called (default: the text)")
    add.add_argument("--cron", help='crontab line, e.g. "45 17 * * 1-5"')
    add.add_argument("--at", action="append", dest="times", metavar="HH:MM", help="time of day; again for more")
    add.add_argument("--on", action="append", dest="weekdays", metavar="DAY", help="mon … sun; again for more")
    add.add_argument("--date", action="append", dest="dates", metavar="DATE", help="2026-12-24; again for more")
    add.add_argument("--except", action="append", dest="except_days", metavar="DATE[/DATE]", help="not on these days")
    add.add_argument("--first-day", metavar="DATE")
    add.add_argument("--last-day", metavar="DATE")
    add.add_argument("--time-zone", help="e.g. Asia/Shanghai (default: the one of the box)")
    add.add_argument("--if-missed", choices=("play", "skip"), help="when the box was off at that time (default: skip)")
    add.add_argument("--grace", type=float, metavar="S", help="how late it may be played then (default: 300)")
    add_action(actions, "list", "schedules and when they are due next", list_schedules)
    _named(add_action(actions, "remove", "remove a schedule", remove_schedule))
    _named(add_action(actions, "runs", "what became of a schedule's times", list_runs))


def _named(action: argparse.ArgumentParser) -> None:
    action.add_argument("id", help="which schedule")


def add_schedule(terminal: Terminal) -> int:
    given = terminal.arguments
    order: JsonDict = {
        "name": given.name or given.text[:80],
        "message": message_of(terminal),
        "cron": given.cron,
        **{name: getattr(given, name) for name in LISTS},
        "first_day": given.first_day,
        "last_day": given.last_day,
        "time_zone": given.time_zone,
        "if_missed": given.if_missed,
        "grace_s": given.grace,
    }
    row = terminal.client.post("/v1/schedules", {key: value for key, value in order.items() if value is not None})
    if terminal.as_json:
        terminal.document(row)
        return 0
    terminal.tell("cli.schedule_added", id=row["id"], next=", ".join(row["next"]))
    return 0


def list_schedules(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/schedules"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    table = [[row["id"], row["name"], _when(row), row["next"][0] if row["next"] else ""] for row in rows]
    terminal.table(("id", "name", "rule", "next"), table)
    return 0


def _when(row: JsonDict) -> str:
    rule = row["rule"]
    days = rule.get("weekdays") or rule.get("dates") or ()
    return str(rule.get("cron") or " ".join((*rule.get("times", ()), *days)))


def remove_schedule(terminal: Terminal) -> int:
    schedule = terminal.arguments.id
    terminal.client.delete(f"/v1/schedules/{quote(schedule, safe='')}")
    if terminal.as_json:
        terminal.document({"id": schedule, "removed": True})
        return 0
    terminal.tell("cli.schedule_removed", id=schedule)
    return 0


def list_runs(terminal: Terminal) -> int:
    rows = list(terminal.client.items(f"/v1/schedules/{quote(terminal.arguments.id, safe='')}/runs"))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    names = ("due_at", "outcome", "reason", "announcement")
    terminal.table(names, [[row[name] for name in names] for row in rows])
    return 0
