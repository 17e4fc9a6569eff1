"""Which networks have been exported already, and the child that exports the others while the engine speaks without.

`python -m appliance.engine.gpt_sovits.preparation JSON` is that child: niced, without network, gone with its parent.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.contracts import UNTRIED, EngineHost, JsonDict
from appliance.engine.artifact_store import ArtifactStore, Circumstances, Prepared
from appliance.engine.exporting import circumstances
from appliance.engine.gpt_sovits.exports import PARTS, export_file, open_network, sources_of
from appliance.engine.gpt_sovits.pairing import ENGINE
from appliance.engine.placement import PlacedNetwork
from appliance.engine.placement_cache import any_crash
from appliance.engine.placement_records import CHOSEN, Record, describe
from appliance.engine.source_digests import SourceDigests
from appliance.errors import VoicedError
from appliance.isolation import die_with_parent, leave_network

if TYPE_CHECKING:
    from appliance.engine.gpt_sovits.graphs import Graph

log = logging.getLogger(__name__)
NICE = 10
SPOKEN = ("bert", "s1", "s2")  # what every sentence needs
REFERENCE = "torch"  # where no export can be used, the networks themselves compute


class Preparation:
    """Exported networks of one process. Safe across threads."""

    def __init__(self, host: EngineHost) -> None:
        self.host = host
        self._store = ArtifactStore(host.cache_dir)
        self._turn = threading.Lock()
        self._digests = SourceDigests()
        self._children: dict[tuple[str, Path], subprocess.Popen[bytes]] = {}
        self._open: dict[str, PlacedNetwork] = {}
        self._released: dict[str, tuple[Record, ...]] = {}  # what was considered for those that nobody holds any more
        self._waiting: dict[str, JsonDict] = {}

    @cached_property
    def _now(self) -> Circumstances:
        return circumstances(self.host)

    @property
    def opens_side_by_side(self) -> bool:
        """Whether several networks may be opened at a time."""
        return not self.host.measures and not any_crash(self.host, ENGINE)

    def expect(self, files: Mapping[str, Path]) -> None:
        """These files of a voice (by role) will be asked for: their digests are read at once, not one by one."""
        if self._now.backends:
            self._digests.expect(files[role] for role in SPOKEN if role in files)

    def open(
        self, role: str, weights: Path, config: Path | None, graphs: Mapping[str, Graph] | None = None
    ) -> dict[str, PlacedNetwork] | None:
        """Sessions of all networks of one file of weights, by name; None until they have been exported.

        What cannot be used is thrown away and, where the host lets this engine, exported anew in a child.
        """
        opened: dict[str, PlacedNetwork] = {}

        def take(name: str, prepared: Prepared) -> None:
            opened[name] = open_network(prepared, self.host, (graphs or {}).get(name))

        if not self._take_all(role, weights, config, take):
            for session in opened.values():
                session.close()
            return None
        with self._turn:
            self._open |= opened
            for name in opened:
                self._released.pop(name, None)
        if any(record.state == UNTRIED for session in opened.values() for record in session.records):
            self._start(role, weights, config)  # what it measures counts from the next start on
        return opened

    def release(self, role: str) -> None:
        """Hold the sessions of `role` no longer, so that their memory is free when who opened them lets go of them."""
        with self._turn:
            for name in PARTS.get(role, ()):
                session = self._open.pop(name, None)
                if session is not None:
                    self._released[name] = session.records

    def find(self, role: str, weights: Path, config: Path | None) -> dict[str, Prepared] | None:
        """As `open`, for those who open them in their own way."""
        found: dict[str, Prepared] = {}
        return found if self._take_all(role, weights, config, found.__setitem__) else None

    def _take_all(self, role: str, weights: Path, config: Path | None, take: Callable[[str, Prepared], None]) -> bool:
        """Whether all networks of one file of weights have been exported and could be taken."""
        if role not in PARTS or not self._now.backends:
            return False
        with self._turn:
            child = self._children.get((role, weights))
            if child is not None and child.poll() is None:
                return False
        sources = sources_of(role, weights, config, self._digests.of)
        for name, source in sources.items():
            try:
                prepared = self._store.find(source, self._now)
                reason = "" if prepared else "not exported yet"
                if prepared:
                    take(name, prepared)
            except VoicedError as error:
                reason = describe(error)
                log.warning("%s: %s", name, reason)
                self._store.remove(source)
            if reason:
                self._wait(name, reason)
                self._start(role, weights, config)
                return False
        with self._turn:
            for name in sources:
                self._waiting.pop(name, None)
        return True

    def rows(self) -> tuple[JsonDict, ...]:
        """What was considered for each network, for `Engine.placement`."""
        from dataclasses import asdict

        with self._turn:
            known = [*(session.records for session in self._open.values()), *self._released.values()]
            return (*(asdict(record) for records in known for record in records), *self._waiting.values())

    def close(self) -> None:
        """End the children; sessions belong to who opened them."""
        self._digests.close()
        with self._turn:
            for child in self._children.values():
                if child.poll() is None:
                    child.kill()
                child.wait()
            self._children.clear()

    def _wait(self, name: str, reason: str) -> None:
        with self._turn:
            row = {"network": name, "backend": REFERENCE, "state": CHOSEN, "precision": "float", "version": ""}
            self._waiting[name] = row | {"milliseconds": None, "distance": 0.0, "reason": reason}

    def _start(self, role: str, weights: Path, config: Path | None) -> None:
        """Once per process and file: what fails is not tried for ever."""
        with self._turn:
            if not self.host.prepares or (role, weights) in self._children:
                return
            order = {
                "role": role,
                "weights": str(weights),
                "config": str(config) if config else None,
                "cache_dir": str(self.host.cache_dir),
                "threads": self.host.threads,
                "backends": list(self.host.backends),
                "drop_in_dir": str(self.host.drop_in_dir) if self.host.drop_in_dir else None,
            }
            command = [sys.executable, "-m", __name__, json.dumps(order)]
            self._children[role, weights] = subprocess.Popen(command, stdin=subprocess.DEVNULL)


def obey(order: JsonDict) -> list[Prepared]:
    """Export one file of weights in this process."""
    from appliance.plugin_manager import load_plugins
    from appliance.settings import PluginSettings

    plugins = load_plugins(PluginSettings(), Path(order["drop_in_dir"]) if order["drop_in_dir"] else None)
    host = EngineHost(plugins.make_backends(order["backends"]), {}, Path(order["cache_dir"]), int(order["threads"]))
    config = Path(order["config"]) if order["config"] else None
    return export_file(order["role"], Path(order["weights"]), config, host)


def main(argv: list[str]) -> int:
    die_with_parent()
    leave_network()
    os.nice(NICE)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="export %(levelname)s %(name)s: %(message)s")
    order = json.loads(argv[0])
    try:
        obey(order)
    except Exception as error:
        log.exception("%s of %s was not exported: %s", order["role"], ENGINE, describe(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
