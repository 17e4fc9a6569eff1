"""The channel `peer`: another box gets the same renditions, each of them once.

    offer the list → send what the other box says it lacks, from where it broke off → commit

Files are known by their digest: a line that the peer already has, from whatever script, is not sent again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from appliance.contracts import Channel, ChannelHost, DeliveredLine, Delivery, JsonDict, PeerLink, StagedDelivery
from appliance.errors import InvalidInput, Unavailable

CHUNK_BYTES = 1 << 18
PATIENCE_S = 120.0  # a cable that was pulled is plugged in again by then; later, publishing again goes on
RETRY_S = 1.0


class PeerChannel(Channel):
    """Settings: `peer` (uuid of a paired box) and `patience_s`."""

    kind = "peer"
    purpose = "share"

    def check(self, settings: JsonDict, host: ChannelHost) -> JsonDict:
        """Raises InvalidInput("channel_settings_invalid")."""
        uuid = str(settings.get("peer", ""))
        if uuid not in host.peers:
            known = ", ".join(host.peers) or "none"
            raise InvalidInput("channel_settings_invalid", kind=self.kind, problem=f"peer: paired are {known}")
        try:
            patience = float(settings.get("patience_s", PATIENCE_S))
        except (TypeError, ValueError, OverflowError):
            patience = -1.0
        if not 0 <= patience <= 3600:
            raise InvalidInput("channel_settings_invalid", kind=self.kind, problem="patience_s: 0 to 3600")
        return {"peer": uuid, "patience_s": patience}

    def prepare(self, delivery: Delivery, settings: JsonDict, host: ChannelHost) -> StagedDelivery:
        """Bring every file over. Raises Unavailable("peer_unreachable", "peer_unknown"), Forbidden("peer_refused")."""
        link = host.peers.get(str(settings["peer"]))
        if link is None:
            raise Unavailable("peer_unknown", peer=str(settings["peer"]))
        staged = _StagedOffer(link, delivery, float(settings["patience_s"]))
        staged.bring_over()
        return staged


class _StagedOffer(StagedDelivery):
    def __init__(self, link: PeerLink, delivery: Delivery, patience_s: float) -> None:
        self._link = link
        self._delivery = delivery
        self._patience_s = patience_s
        self._offer = ""

    def bring_over(self) -> None:
        body = json.dumps(offer_of(self._delivery), ensure_ascii=False).encode()
        answer = self._insist(lambda: self._link.send("POST", "/v1/peer/offers", body))
        self._offer = str(answer["offer"])
        have = {str(row["sha256"]): int(row["have"]) for row in answer["missing"]}
        for line in {line.sha256: line for line in self._delivery.lines}.values():
            if line.sha256 in have:
                self._send(line, have[line.sha256])

    def commit(self) -> None:
        self._insist(lambda: self._link.send("POST", f"/v1/peer/offers/{self._offer}/commit", b"{}"))

    def revert(self) -> None:
        if self._offer:
            self._link.send("POST", f"/v1/peer/offers/{self._offer}/revert", b"{}")

    def _send(self, line: DeliveredLine, offset: int) -> None:
        """Piece by piece; an empty one where all is there and that box went down before it had looked at it."""
        content = Path(line.path).read_bytes()
        offset = offset if offset <= len(content) else 0  # that box starts anew, too
        while True:
            start, part = offset, content[offset : offset + CHUNK_BYTES]
            path = f"/v1/peer/blobs/{line.sha256}/{len(content)}/{start}"
            answer = self._insist(lambda path=path, part=part: self._link.send("PUT", path, part))  # type: ignore[misc]
            if answer.get("is_complete"):
                return
            offset = int(answer["have"])
            if offset <= start:
                raise Unavailable("peer_unreachable", url=self._link.url, reason=f"it keeps {offset} of {start} bytes")

    def _insist(self, send: Callable[[], JsonDict]) -> JsonDict:
        """A cut connection is tried again until patience ends. Raises Unavailable, Forbidden."""
        gives_up_at = time.monotonic() + self._patience_s
        while True:
            try:
                return send()
            except Unavailable as error:
                if error.code == "peer_declined" or time.monotonic() >= gives_up_at:
                    raise
            time.sleep(RETRY_S)


def offer_of(delivery: Delivery) -> JsonDict:
    """What a peer is told of a delivery."""
    lines = [{**line.told(), "sha256": line.sha256} for line in delivery.lines]
    return {**delivery.told(), "lines": lines}
