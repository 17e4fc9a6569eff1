"""Loads every plugin alone, keeps the reason when one fails, and collects what the others register.

A plugin that cannot be imported, raises, hangs, exits or speaks another API version is quarantined: the box still
speaks, and `voiced plugins` says what to do. Two plugins that claim one name stop the boot.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from appliance.contracts import Backend, Channel, Engine, JsonDict, TextFrontend, Transcriber
from appliance.errors import Conflict
from appliance.hookspecs import API_VERSION, PROJECT, VoicedSpec
from appliance.messages import text
from appliance.settings import PluginSettings

log = logging.getLogger(__name__)

RUNS_EVERYWHERE = "onnxruntime"  # the backend that every box has

# enter by the same door as everybody else
BUILT_IN = {
    "embedded": "appliance.engine.embedded",
    "gpt_sovits": "appliance.engine.gpt_sovits",
    "channels": "appliance.publishing.built_in",
}


@dataclass(frozen=True)
class PluginInfo:
    """What became of one plugin."""

    name: str
    source: str  # "built-in" | "package NAME" | the file
    version: str
    state: str  # "active" | "quarantined" | "blocked"
    reason: str = ""  # catalogue code when quarantined, e.g. "plugin_raised"
    detail: str = ""
    provides: tuple[str, ...] = ()  # "frontends:zh", …

    def as_json(self, language: str = "en") -> JsonDict:
        values = {"plugin": self.name, "detail": self.detail, "api": API_VERSION}
        return {
            "id": self.name,
            "source": self.source,
            "version": self.version,
            "state": self.state,
            "code": self.reason or None,
            "reason": text(f"{self.reason}.message", language, **values) if self.reason else "",
            "remedy": text(f"{self.reason}.remedy", language, **values) if self.reason else "",
            "provides": list(self.provides),
        }


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    handler: Callable[..., Any]


@dataclass(frozen=True)
class Command:
    configure: Callable[..., None]
    run: Callable[..., int]


@dataclass
class Plugins:
    """Everything that the active plugins brought, by name."""

    backends: dict[str, Callable[[], Backend]] = field(default_factory=dict)
    frontends: dict[str, Callable[[], TextFrontend]] = field(default_factory=dict)
    engines: dict[str, Callable[[], Engine]] = field(default_factory=dict)
    transcribers: dict[str, Callable[[], Transcriber]] = field(default_factory=dict)
    channels: dict[str, Callable[[], Channel]] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)
    infos: list[PluginInfo] = field(default_factory=list)

    def report(self) -> list[PluginInfo]:
        """One row per plugin that was found, in load order."""
        return list(self.infos)

    def candidates(self, named: Sequence[str] = ()) -> tuple[str, ...]:
        """Names of the backends that may be used, the preferred one first: those that are `named` and here, or all."""
        everywhere = sorted(self.backends, key=lambda name: (name != RUNS_EVERYWHERE, name))
        return tuple(name for name in named or everywhere if name in self.backends)

    def make_backends(self, named: Sequence[str] = ()) -> dict[str, Backend]:
        """The `candidates`, ready to be probed."""
        return {name: self.backends[name]() for name in self.candidates(named)}


@dataclass(frozen=True)
class _Candidate:
    name: str
    source: str
    version: str
    load: Callable[[], Any]
    refusal: str = ""  # a reason known before anything is imported


class _Refused(Exception):
    """A plugin that will not be used; `code` is the catalogue entry that says why."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def load_plugins(settings: PluginSettings, drop_in_dir: Path | None = None) -> Plugins:
    """Find, load and ask every plugin. Raises Conflict("plugin_duplicate") when two register the same name."""
    plugins = Plugins()
    owners: dict[tuple[str, str], str] = {}
    for candidate in _candidates(settings.drop_in_dir or drop_in_dir):
        if candidate.name in settings.blocked:
            plugins.infos.append(PluginInfo(candidate.name, candidate.source, candidate.version, "blocked"))
            continue
        try:
            brought = _load_alone(candidate, settings.load_timeout_s)
        except _Refused as refusal:
            log.warning("plugin %s is quarantined: %s %s", candidate.name, refusal.code, refusal.detail)
            info = PluginInfo(
                candidate.name, candidate.source, candidate.version, "quarantined", refusal.code, refusal.detail
            )
        else:
            _adopt(plugins, owners, candidate.name, brought)
            names = tuple(f"{kind}:{name}" for kind, name, _ in brought)
            info = PluginInfo(candidate.name, candidate.source, candidate.version, "active", provides=names)
        plugins.infos.append(info)
    return plugins


def _adopt(
    plugins: Plugins, owners: dict[tuple[str, str], str], owner: str, brought: list[tuple[str, str, Any]]
) -> None:
    for kind, name, value in brought:
        if (kind, name) in owners:
            raise Conflict("plugin_duplicate", kind=kind, name=name, first=owners[kind, name], second=owner)
        owners[kind, name] = owner
        getattr(plugins, kind)[name] = value


def _candidates(drop_in_dir: Path | None) -> Iterator[_Candidate]:
    for name, dotted in BUILT_IN.items():
        yield _Candidate(name, "built-in", "", partial(importlib.import_module, dotted))
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=PROJECT):
        found.setdefault(entry.name, entry)  # an editable install can list its entry points twice
    for entry in sorted(found.values(), key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else ""
        yield _Candidate(entry.name, f"package {package}", version, entry.load)
    if drop_in_dir is not None and drop_in_dir.is_dir():
        for path in sorted(drop_in_dir.iterdir()):
            file = path / "__init__.py" if path.is_dir() else path
            if file.suffix == ".py" and file.is_file() and not path.name.startswith(("_", ".")):
                yield _drop_in(path.stem, file, drop_in_dir)


def _drop_in(name: str, file: Path, folder: Path) -> _Candidate:
    writable_by_all = any(path.stat().st_mode & 0o002 for path in (file, file.parent, folder))
    return _Candidate(
        name, str(file), "", lambda: _import_file(name, file), "plugin_insecure" if writable_by_all else ""
    )


def _import_file(name: str, file: Path) -> ModuleType:
    module_name = f"voiced_drop_in_{name}"
    search = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(module_name, file, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(module_name, None)
        raise
    return module


def _load_alone(candidate: _Candidate, timeout_s: float) -> list[tuple[str, str, Any]]:
    """Import one plugin and ask its hooks, on a thread of its own: one that hangs is left behind, not waited for."""
    if candidate.refusal:
        raise _Refused(candidate.refusal, candidate.source)
    outcome: list[list[tuple[str, str, Any]]] = []
    trouble: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(_ask(candidate.name, candidate.load()))
        except BaseException as error:  # noqa: BLE001 - SystemExit in a plugin must not end the box either
            trouble.append(error)

    thread = threading.Thread(target=work, name=f"load-{candidate.name}", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise _Refused("plugin_hangs", f"{timeout_s:g} s")
    if trouble:
        error = trouble[0]
        if isinstance(error, _Refused):
            raise error
        code = "plugin_import_failed" if isinstance(error, ImportError) else "plugin_raised"
        raise _Refused(code, f"{type(error).__name__}: {error}") from error
    return outcome[0]


def _ask(name: str, module: Any) -> list[tuple[str, str, Any]]:
    """Register the module with a manager of its own and collect (kind, name, value) from every hook it implements."""
    api = getattr(module, "VOICED_API", API_VERSION)
    if api != API_VERSION:
        raise _Refused("plugin_api_version", str(api))
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(VoicedSpec)
    try:
        manager.register(module, name)
        manager.check_pending()  # a misspelt hook would otherwise be silent
    except pluggy.PluginValidationError as error:
        raise _Refused("plugin_unknown_hook", str(error)) from error
    brought: list[tuple[str, str, Any]] = []

    def collect(kind: str, name: str, value: Any) -> None:
        brought.append((kind, name, value))

    for kind in ("backends", "frontends", "engines", "transcribers", "channels"):
        getattr(manager.hook, f"register_{kind}")(register=partial(collect, kind))
    manager.hook.register_routes(
        register=lambda method, path, handler: collect("routes", f"{method} {path}", Route(method, path, handler))
    )
    manager.hook.register_commands(
        register=lambda name, configure, run: collect("commands", name, Command(configure, run))
    )
    return brought
