"""The hooks a plugin may implement.

Hooks collect, the core decides: each hook hands the plugin a `register` call. All are synchronous, cheap and
idempotent; none is `firstresult`. A factory is called later, in the process that needs the thing, so importing and
registering must not load models or heavy libraries. Two plugins that register one name stop the boot, both named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from appliance.contracts import Backend, Channel, Engine, TextFrontend, Transcriber

if TYPE_CHECKING:
    import argparse

PROJECT = "voiced"
API_VERSION = 1  # a plugin module may state `VOICED_API = 1`; another number is quarantined

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class RegisterBackend(Protocol):
    def __call__(self, name: str, factory: Callable[[], Backend]) -> None: ...


class RegisterFrontend(Protocol):
    def __call__(self, language: str, factory: Callable[[], TextFrontend]) -> None: ...


class RegisterEngine(Protocol):
    def __call__(self, name: str, factory: Callable[[], Engine]) -> None: ...


class RegisterTranscriber(Protocol):
    def __call__(self, name: str, factory: Callable[[], Transcriber]) -> None: ...


class RegisterChannel(Protocol):
    def __call__(self, kind: str, factory: Callable[[], Channel]) -> None: ...


class RegisterRoute(Protocol):
    def __call__(self, method: str, path: str, handler: Callable[..., Any]) -> None: ...


class RegisterCommand(Protocol):
    def __call__(
        self, name: str, configure: Callable[[argparse.ArgumentParser], None], run: Callable[..., int]
    ) -> None: ...


class VoicedSpec:
    """The hook specifications, one per kind of thing a plugin can bring."""

    @hookspec
    def register_backends(self, register: RegisterBackend) -> None:
        """Bring hardware runtimes: `register("openvino", OpenVinoBackend)`."""

    @hookspec
    def register_frontends(self, register: RegisterFrontend) -> None:
        """Bring text front ends, one per language code: `register("zh", MandarinFrontend)`."""

    @hookspec
    def register_engines(self, register: RegisterEngine) -> None:
        """Bring model families that speak: `register("embedded", EmbeddedEngine)`."""

    @hookspec
    def register_transcribers(self, register: RegisterTranscriber) -> None:
        """Bring speech recognisers: `register("whisper", WhisperTranscriber)`."""

    @hookspec
    def register_channels(self, register: RegisterChannel) -> None:
        """Bring places where publications go: `register("folder", FolderChannel)`."""

    @hookspec
    def register_routes(self, register: RegisterRoute) -> None:
        """Bring HTTP routes under `/x/`: `register("GET", "/x/weather", handler)`; they stand behind the same token."""

    @hookspec
    def register_commands(self, register: RegisterCommand) -> None:
        """Bring subcommands of `voiced`: `register("weather", configure, run)`."""
