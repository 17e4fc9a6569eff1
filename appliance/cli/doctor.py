"""`voiced doctor`: looks at everything that keeps a box from working, and says what to do about each."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from appliance.cli import add_common
from appliance.cli.machine import memory_bytes
from appliance.contracts import JsonDict, Probe
from appliance.errors import VoicedError

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal
    from appliance.plugin_manager import Plugins

OK, WARNING, FAULT = "ok", "warning", "fault"
MARKS = {OK: "[green]✓[/]", WARNING: "[yellow]![/]", FAULT: "[red]✗[/]"}
LOW_DISK_BYTES = 2 << 30  # prepared graphs, the ASR model and some recordings
LOW_MEMORY_BYTES = 4 << 30  # a speaker (0.6 GB), a listener (0.7) and the peak of a trainer (3.3) beside the system
SANE_YEAR = 2025  # a box whose clock says less has lost its battery: certificates, schedules and consents go wrong


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `code` names the catalogue's `doctor.CODE.message` and `.remedy` for `measured`."""

    name: str
    state: str
    code: str
    measured: JsonDict = field(default_factory=dict)


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.set_defaults(command=doctor)


def doctor(terminal: Terminal) -> int:
    """Exit 0 when nothing is at fault; warnings do not count."""
    findings = list(examine(terminal))
    if terminal.as_json:
        terminal.document({"ok": not _is_ill(findings), "checks": [_as_json(terminal, row) for row in findings]})
    else:
        for row in findings:
            terminal.out.print(
                f"{MARKS[row.state]} [bold]{escape(row.name)}[/]  {escape(_say(terminal, row, 'message'))}"
            )
            if row.state != OK and (remedy := _say(terminal, row, "remedy")):
                terminal.out.print(f"    → {escape(remedy)}")
    return 1 if _is_ill(findings) else 0


def examine(terminal: Terminal) -> Iterator[Finding]:
    """Every check, alone first, then the daemon."""
    yield from _machine()
    try:
        settings = terminal.settings
    except VoicedError as error:
        yield Finding("settings", FAULT, "settings_bad", {"problem": error.message(terminal.language)})
        return
    yield Finding(
        "settings", OK, "settings_good", {"profile": settings.profile or "–", "state_dir": str(settings.state_dir)}
    )
    yield _disk(settings.state_dir)
    yield from _plugins(terminal)
    yield from _fingerprint(settings.state_dir)
    yield _sound()
    yield from _daemon(terminal)


def _machine() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(
        "python",
        OK if sys.version_info >= (3, 11) else FAULT,
        "python",
        {"version": version, "machine": platform.machine()},
    )
    memory = memory_bytes("MemAvailable")
    if memory is not None:
        state = OK if memory >= LOW_MEMORY_BYTES else WARNING
        yield Finding(
            "memory", state, "memory", {"available_gb": round(memory / 2**30, 1), "needed_gb": LOW_MEMORY_BYTES >> 30}
        )
    year = time.gmtime().tm_year
    yield Finding(
        "clock",
        OK if year >= SANE_YEAR else FAULT,
        "clock",
        {"now": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
    )


def _disk(state_dir: Path) -> Finding:
    folder = next(path for path in (state_dir, *state_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    measured = {"folder": str(folder), "free_gb": round(free / 2**30, 1), "needed_gb": LOW_DISK_BYTES >> 30}
    return Finding("disk", OK if free >= LOW_DISK_BYTES else WARNING, "disk", measured)


def _fingerprint(state_dir: Path) -> Iterator[Finding]:
    """What people compare before their programs trust this box; nothing before its first boot."""
    from appliance.security.tls import AUTHORITY, fingerprint_of

    try:
        measured = {"fingerprint": fingerprint_of((state_dir / "keys" / AUTHORITY).read_bytes())}
    except (OSError, ValueError):
        return
    yield Finding("tls", OK, "tls", measured)


def _plugins(terminal: Terminal) -> Iterator[Finding]:
    from appliance.plugin_manager import load_plugins

    try:
        plugins = load_plugins(terminal.settings.plugins, terminal.settings.state_dir / "plugins")
    except VoicedError as error:
        yield Finding(
            "plugins",
            FAULT,
            "plugin_bad",
            {"plugin": "–", "reason": error.message(terminal.language), "todo": error.remedy(terminal.language)},
        )
        return
    for info in plugins.report():
        row = info.as_json(terminal.language)
        if info.state == "quarantined":
            measured = {"plugin": info.name, "reason": row["reason"], "todo": row["remedy"]}
            yield Finding(f"plugin {info.name}", WARNING, "plugin_bad", measured)
    yield Finding("plugins", OK, "plugins_good", {"active": sum(info.state == "active" for info in plugins.report())})
    yield from _probes(terminal, plugins)


def _probes(terminal: Terminal, plugins: Plugins) -> Iterator[Finding]:
    wanted = terminal.settings.engine
    first = plugins.candidates(wanted.backends)[:1]
    for name, factory in plugins.backends.items():
        needed = FAULT if name in first else WARNING if name in wanted.backends else OK
        yield _probe(f"backend {name}", factory().probe, needed)
    for name, engine in plugins.engines.items():
        yield _probe(f"engine {name}", engine().probe, FAULT if name == wanted.default else WARNING)
        yield _probe(f"cloning with {name}", engine().can_adapt, WARNING)
    for name, transcriber in plugins.transcribers.items():
        yield _probe(f"transcriber {name}", transcriber().probe, WARNING)
    for name in plugins.engines:
        yield from _placement(terminal, name)
    if wanted.default not in plugins.engines:
        yield Finding("engine", FAULT, "engine_absent", {"engine": wanted.default})


def _placement(terminal: Terminal, engine: str) -> Iterator[Finding]:
    """Which backend runs which network, as it was measured; nothing where there was no choice or no trial yet.

    That one computes something else is news only where the site named it.
    """
    from appliance.engine.placement_cache import known_placements
    from appliance.engine.placement_records import CHOSEN, DIFFERS, SLOWER, UNUSABLE

    rows = known_placements(terminal.settings.state_dir / "cache", engine)
    expected = (SLOWER, UNUSABLE) if terminal.settings.engine.backends else (SLOWER, UNUSABLE, DIFFERS)
    for chosen in (row for row in rows if row["state"] == CHOSEN):
        others = [row for row in rows if row["network"] == chosen["network"] and row is not chosen]
        why = "; ".join(f"{row['backend']}: {row['reason'] or row['milliseconds']}" for row in others)
        is_odd = any(row["state"] not in expected for row in others)
        code = "placed_alone" if chosen["milliseconds"] is None else "placed"
        measured = {key: chosen[key] for key in ("backend", "milliseconds", "reason")} | {"others": why}
        yield Finding(f"{engine} {chosen['network']}", WARNING if is_odd else OK, code, measured)


def _probe(name: str, look: Callable[[], Probe], when_unusable: str) -> Finding:
    try:
        probe = look()
    except Exception as error:  # noqa: BLE001 - a plugin's probe may raise anything, and that is the finding
        return Finding(name, when_unusable, "unusable", {"reason": f"{type(error).__name__}: {error}"})
    if not probe.usable:
        return Finding(name, when_unusable, "unusable", {"reason": probe.reason})
    return Finding(
        name,
        OK,
        "usable",
        {"version": probe.version, "devices": ", ".join(d.description or d.name for d in probe.devices)},
    )


def _sound() -> Finding:
    """In a child: PortAudio probes drivers when it is imported, and some of them write to the terminal or crash."""
    code = "import sounddevice as s; print(sum(d['max_output_channels'] > 0 for d in s.query_devices()))"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return Finding("loudspeaker", WARNING, "sound_hangs")
    if done.returncode != 0:
        code = "sound_library" if "PortAudio library not found" in done.stderr else "sound_bad"
        return Finding("loudspeaker", WARNING, code, {"reason": (done.stderr.strip().splitlines() or ["?"])[-1]})
    count = int(done.stdout.split()[-1])
    return Finding(
        "loudspeaker", OK if count else WARNING, "sound_good" if count else "sound_absent", {"devices": count}
    )


def _daemon(terminal: Terminal) -> Iterator[Finding]:
    url = terminal.client.url
    try:
        terminal.client.get("/healthz")
        ready = terminal.client.call("GET", "/readyz").status
    except VoicedError as error:
        is_down = error.code == "daemon_unreachable"
        yield Finding(
            "daemon",
            WARNING,
            "daemon_down" if is_down else "daemon_ill",
            {"url": url, "reason": error.message(terminal.language)},
        )
        return
    yield Finding("daemon", OK, "daemon_good", {"url": url, "status": ready})
    yield from _keys(terminal)
    yield from _wyoming(terminal)


def _keys(terminal: Terminal) -> Iterator[Finding]:
    """Whether what speakers left can be read; nothing where who asks may not know."""
    try:
        told = terminal.client.get("/v1/system")["keys"]
    except VoicedError:
        return
    if told["state"] == "open":
        yield Finding("keys", OK, "keys_open")
    else:
        yield Finding("keys", FAULT, "keys_closed", {"problem": told["message"], "todo": told["remedy"]})


def _wyoming(terminal: Terminal) -> Iterator[Finding]:
    """The door for assistants, as the daemon tells it; nothing where it is switched off, or who asks may not know."""
    try:
        told = terminal.client.get("/v1/system")["wyoming"]
    except VoicedError:
        return
    if told["state"] == "open":
        yield Finding("wyoming", OK, "wyoming_open", {name: told[name] for name in ("host", "port", "connections")})
    elif told["state"] == "closed":
        is_untouched = told["code"] == "wyoming_not_trusted"  # nobody has set it up: that is no fault
        measured = {"problem": told["problem"], "todo": told["remedy"]}
        yield Finding("wyoming", OK if is_untouched else WARNING, "wyoming_closed", measured)


def _is_ill(findings: list[Finding]) -> bool:
    return any(row.state == FAULT for row in findings)


def _say(terminal: Terminal, row: Finding, part: str) -> str:
    words = terminal.sentence(f"doctor.{row.code}.{part}", **row.measured)
    return "" if words.startswith("doctor.") else words


def _as_json(terminal: Terminal, row: Finding) -> JsonDict:
    return {
        "name": row.name,
        "state": row.state,
        "code": row.code,
        "message": _say(terminal, row, "message"),
        "remedy": "" if row.state == OK else _say(terminal, row, "remedy"),
        "measured": row.measured,
    }
