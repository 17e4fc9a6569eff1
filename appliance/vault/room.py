"""The vault as programs open it: the keys, and the folder for plaintext."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from appliance.settings import SecuritySettings
from appliance.state_dir import StateDir
from appliance.vault.keys import KeyRing, open_keys
from appliance.vault.plaintext import IDLE_S, PlaintextFolder, folder_for

log = logging.getLogger(__name__)

SWEEP_EVERY_S = IDLE_S / 10


@dataclass(frozen=True)
class Vault:
    keys: KeyRing
    plaintext: PlaintextFolder


@contextmanager
def open_vault(state: StateDir, settings: SecuritySettings) -> Iterator[Vault]:
    """Keys and an empty plaintext folder; at the end nothing decrypted is left.

    Blocks. Raises Unavailable("keys_unusable" | "plaintext_folder_unsafe"), StorageFull.
    """
    keys = open_keys(state.keys, settings.key_file)
    try:
        plaintext = PlaintextFolder(folder_for(state.root, settings.plaintext_dir))
        try:
            yield Vault(keys, plaintext)
        finally:
            plaintext.close()
    finally:
        keys.close()


@asynccontextmanager
async def serve_vault(state: StateDir, settings: SecuritySettings) -> AsyncIterator[Vault]:
    """The same for a daemon: what nobody uses is taken out of the plaintext folder now and then."""
    opened = open_vault(state, settings)
    vault = await asyncio.to_thread(opened.__enter__)
    if (trouble := await asyncio.to_thread(vault.keys.trouble)) is not None:
        log.error("%s %s", trouble, trouble.remedy())
    sweeping = asyncio.create_task(_sweep(vault.plaintext), name="plaintext-sweeping")
    try:
        yield vault
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await asyncio.to_thread(opened.__exit__, None, None, None)


async def _sweep(plaintext: PlaintextFolder) -> None:
    while True:
        await asyncio.sleep(SWEEP_EVERY_S)
        with suppress(OSError):
            await asyncio.to_thread(plaintext.sweep)
