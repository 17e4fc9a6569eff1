"""The channels that every box has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.hookspecs import RegisterChannel, hookimpl

if TYPE_CHECKING:
    from appliance.contracts import Channel

VOICED_API = 1


def _folder() -> Channel:
    from appliance.publishing.folders import FolderChannel

    return FolderChannel()


def _webhook() -> Channel:
    from appliance.publishing.webhooks import WebhookChannel

    return WebhookChannel()


def _peer() -> Channel:
    from appliance.publishing.peer_channel import PeerChannel

    return PeerChannel()


@hookimpl
def register_channels(register: RegisterChannel) -> None:
    """Offer "folder", "webhook" and "peer"."""
    register("folder", _folder)
    register("webhook", _webhook)
    register("peer", _peer)
