"""The alias goes back the way it came, and the changelog says who moved it."""

from __future__ import annotations

import pytest

from appliance.errors import Conflict, NotFound
from appliance.voices.records import NewVersion, NewVoice
from appliance.voices.registry import VoiceRegistry


async def _anna(registry: VoiceRegistry, promoted: tuple[int, ...]) -> None:
    await registry.create_voice("main", NewVoice("anna"))
    for _ in range(3):
        await registry.add_version("main", "anna", NewVersion("sine"))
    for number in promoted:
        await registry.promote("main", "anna", number, actor="token:1")


async def test_rolling_back_goes_step_by_step_to_the_beginning(registry: VoiceRegistry) -> None:
    await _anna(registry, (1, 2, 3))
    assert (await registry.rollback("main", "anna", reason="hisses", actor="li")).current == 2
    assert (await registry.rollback("main", "anna")).current == 1
    with pytest.raises(Conflict) as done:
        await registry.rollback("main", "anna")
    assert done.value.code == "nothing_to_roll_back" and (await registry.resolve("main", "anna")).number == 1
    moves = [(m.from_number, m.to_number, m.kind, m.actor) for m in await registry.alias_moves("main", "anna")]
    assert moves[2:] == [(2, 3, "promote", "token:1"), (3, 2, "rollback", "li"), (2, 1, "rollback", "")]


async def test_a_promotion_back_to_an_old_version_can_be_rolled_back_too(registry: VoiceRegistry) -> None:
    await _anna(registry, (1, 3, 1))
    assert (await registry.rollback("main", "anna")).current == 3


async def test_a_voice_without_a_past_or_of_another_tenant_is_refused(registry: VoiceRegistry) -> None:
    await _anna(registry, ())
    with pytest.raises(Conflict):
        await registry.rollback("main", "anna")
    with pytest.raises(NotFound):
        await registry.rollback("other", "anna")


async def test_versions_of_a_deleted_voice_are_not_what_its_successor_goes_back_to(registry: VoiceRegistry) -> None:
    await _anna(registry, (1, 2))
    await registry.delete_voice("main", "anna")
    await registry.create_voice("main", NewVoice("anna"))
    await registry.add_version("main", "anna", NewVersion("sine"))
    await registry.promote("main", "anna", 4)
    with pytest.raises(Conflict):
        await registry.rollback("main", "anna")
