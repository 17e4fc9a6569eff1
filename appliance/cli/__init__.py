"""The command `voiced`: parse, ask the daemon or a room, print. Exit 0 done, 1 refused or failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from appliance import __version__
from appliance.errors import VoicedError
from appliance.messages import LANGUAGES

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

Command = Callable[["Terminal"], int]

# family -> its subcommands; a family is imported only when one of its commands is called (`voiced --help` imports none)
FAMILIES: dict[str, tuple[str, ...]] = {
    "run": ("run", "check-config"),
    "demo": ("demo",),
    "speech": ("say", "announce"),
    "zones": ("zones",),
    "music": ("music",),
    "schedule": ("schedule",),
    "clone": ("clone",),
    "voices": ("voices",),
    "models": ("models",),
    "lexicon": ("lexicon",),
    "script": ("script",),
    "channels": ("channels", "peers"),
    "dub": ("dub",),
    "recordings": ("recordings",),
    "datasets": ("datasets",),
    "jobs": ("jobs",),
    "detect": ("detect",),
    "consent": ("consent",),
    "speakers": ("speakers",),
    "keys": ("keys",),
    "protected": ("protected",),
    "find": ("find",),
    "doctor": ("doctor",),
    "plugins": ("plugins",),
    "bench": ("bench",),
    "tenants": ("tenants", "tokens"),
    "audit": ("audit",),
}

SUMMARIES = {
    "run": "run the daemon in the foreground",
    "check-config": "read all settings, print them, name what is wrong",
    "demo": "clone the carried recording and speak with it: the whole loop, with a report",
    "music": "playlists in zones, under what is said there",
    "schedule": "messages at certain times",
    "zones": "the named outputs: state, alarms, volume",
    "say": "say something on the loudspeaker, or save it with --file",
    "announce": "announcements: say, list, stop",
    "clone": "make a voice from recordings",
    "voices": "voices: list, show, add, promote, consent, delete",
    "models": "imported weights: import, list, show, verify, remove",
    "lexicon": "pronunciations of your own: list, set, remove",
    "script": "scripts: edit, plan, publish, roll back, import, export",
    "channels": "where publications go: list, set, remove",
    "peers": "paired boxes: list, invite, pair, remove",
    "dub": "narrate subtitles: an SRT or WebVTT file in, a track out",
    "recordings": "recordings: check, add, list, record, session, slice, correct",
    "datasets": "datasets: list, show",
    "jobs": "jobs: list, show, watch, cancel",
    "detect": "what a sound file says about where it came from: watermark, metadata, signed provenance",
    "consent": "consent by word of mouth: ask for a statement, say it",
    "speakers": "erase a speaker: recordings, prints, voices, rendered speech",
    "keys": "the master key of what speakers left: status, abandon",
    "protected": "voices that nobody may clone: add, list, remove, reviews, allow, deny",
    "find": "list the boxes on this network",
    "doctor": "look for what keeps this box from working",
    "plugins": "which plugins are active, quarantined or blocked, and why",
    "bench": "measure speech on this machine",
    "tenants": "who shares the box: list, add, disable, enable",
    "tokens": "credentials of programs and devices: list, add, rotate, revoke",
    "audit": "who did what: list, verify, export, checkpoint",
}


LISTED = (  # families that list when no action is named
    "protected",
    "voices",
    "models",
    "lexicon",
    "recordings",
    "jobs",
    "announce",
    "tenants",
    "tokens",
    "audit",
    "zones",
    "music",
    "schedule",
    "script",
    "channels",
    "peers",
    "datasets",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Usage errors raise SystemExit(2), as argparse does."""
    words = _with_action(list(sys.argv[1:] if argv is None else argv))
    arguments = _parser(words).parse_args(words)
    from appliance.cli.terminal import Terminal

    terminal = Terminal(arguments)
    command: Command = arguments.command
    try:
        return command(terminal)
    except VoicedError as error:
        terminal.fail(error)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `voiced jobs list | head`
        sys.stderr.close()
        return 1


def _with_action(words: list[str]) -> list[str]:
    """`voiced voices --json` means `voiced voices list --json`."""
    is_bare = len(words) == 1 or (len(words) > 1 and words[1].startswith("--") and words[1] != "--help")
    return [words[0], "list", *words[1:]] if words and words[0] in LISTED and is_bare else words


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voiced", description="The voice appliance: clone, keep and speak voices on your own premises."
    )
    parser.add_argument("--version", action="version", version=f"voiced {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    called = next((word for word in words if not word.startswith("-")), "")
    for family, names in FAMILIES.items():
        module = import_module(f"appliance.cli.{family}") if called in names else None
        for name in names:
            command = commands.add_parser(name, help=SUMMARIES[name], description=SUMMARIES[name])
            if module is not None and name == called:
                module.configure(name, command)
    if called and called not in SUMMARIES:
        _add_plugin_commands(commands)
    return parser


def _add_plugin_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommands that plugins brought; looked for only when none of our own was called."""
    from appliance.plugin_manager import load_plugins
    from appliance.settings import load_settings

    try:
        settings = load_settings()
        plugins = load_plugins(settings.plugins, settings.state_dir / "plugins")
    except VoicedError as error:
        print(error, file=sys.stderr)
        return
    for name, brought in plugins.commands.items():
        command = commands.add_parser(name)
        brought.configure(command)
        add_common(command)
        command.set_defaults(command=lambda terminal, run=brought.run: run(terminal.arguments))


def add_common(command: argparse.ArgumentParser) -> None:
    """The options that every command knows."""
    group = command.add_argument_group("common")
    group.add_argument("--url", help="address of the daemon (default: the one of --state-dir or of the settings)")
    group.add_argument("--token", help="credential (default: VOICED_ADMIN_TOKEN or admin.token of the state directory)")
    group.add_argument("--ca", metavar="FILE", help="certificate of another box's authority (its /ca.pem), for https")
    group.add_argument("--state-dir", metavar="DIR", help="state directory of the box")
    group.add_argument("--json", action="store_true", help="print one JSON document")
    group.add_argument("--lang", choices=LANGUAGES, help="language of messages")


def add_action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, run: Command
) -> argparse.ArgumentParser:
    """One action of a family (`voiced jobs list`) with the common options."""
    action = actions.add_parser(name, help=summary, description=summary)
    add_common(action)
    action.set_defaults(command=run)
    return action
