"""How the sound of a message goes to another box."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.announcer.peer_orders import PeerOrders
from appliance.errors import Unavailable
from appliance.settings import ZoneSettings
from appliance.voices.blobs import BlobStore

SOUND = b"sound" * 40_000  # four pieces


class OtherBox:
    """Keeps what comes, as an `OfferDesk` does, or forgets it."""

    def __init__(self, have: int, *, forgets: bool = False) -> None:
        self.have, self.forgets, self.pieces = have, forgets, []

    async def send(self, tenant: str, method: str, path: str, body: bytes) -> dict[str, object]:
        size, offset = map(int, path.split("/")[-2:])
        assert offset == self.have
        self.pieces.append(len(body))
        self.have = 0 if self.forgets else offset + len(body)
        return {"have": self.have, "is_complete": self.have == size}


async def carry(folder: Path, box: OtherBox) -> None:
    blobs = BlobStore(folder)
    row = SimpleNamespace(tenant="main", audio=blobs.put_bytes(SOUND))

    async def may_go_on() -> None:
        return None

    await PeerOrders("there", ZoneSettings(peer="Branch", zone="hall"), box, blobs).send_sound(row, box.have, may_go_on)


@pytest.mark.parametrize(("have", "pieces"), [(0, 4), (150_000, 1), (len(SOUND), 1)])
async def test_a_sound_is_carried_on_where_it_broke_off_and_closed_where_all_of_it_is_there(tmp_path, have, pieces):
    box = OtherBox(have)
    await carry(tmp_path, box)
    assert (box.have, len(box.pieces), sum(box.pieces)) == (len(SOUND), pieces, len(SOUND) - have)


async def test_a_box_that_keeps_nothing_is_not_sent_to_for_ever(tmp_path):
    with pytest.raises(Unavailable):
        await carry(tmp_path, OtherBox(0, forgets=True))
