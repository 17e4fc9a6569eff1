"""The channel `webhook`: a program on the LAN is told what a script says now, and fetches the sound from the box.

Two signed messages: `prepare`, which the receiver may refuse, and `publish`; `revert` takes them back. The address is
looked up once per message, must belong to the premises, and that very address is connected to: a name that starts to
point elsewhere gets nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import time
from contextlib import closing
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from appliance.contracts import Channel, ChannelHost, Delivery, JsonDict, StagedDelivery
from appliance.errors import Forbidden, InvalidInput, Unavailable

TIMEOUT_S = 10.0
MOST_ANSWER_BYTES = 1 << 16
SIGNATURE = "X-Voiced-Signature"  # t=UNIX SECONDS,v1=HEX of HMAC-SHA256(secret, "T." + body)


class WebhookChannel(Channel):
    """Settings: `url` (http, on the premises) and `secret` (16 characters or more, shared with the receiver)."""

    kind = "webhook"

    def check(self, settings: JsonDict, host: ChannelHost) -> JsonDict:
        """Raises InvalidInput("channel_settings_invalid")."""
        url, secret = str(settings.get("url", "")), str(settings.get("secret", ""))
        if not _is_plain(url):
            raise InvalidInput(
                "channel_settings_invalid", kind=self.kind, problem="url: http://ADDRESS on the premises"
            )
        if len(secret) < 16 or not secret.isprintable():
            raise InvalidInput(
                "channel_settings_invalid", kind=self.kind, problem="secret: 16 characters, all printable"
            )
        return {"url": url, "secret": secret}

    def prepare(self, delivery: Delivery, settings: JsonDict, host: ChannelHost) -> StagedDelivery:
        """Ask the receiver. Raises Forbidden("webhook_off_premises"), Unavailable("webhook_failed")."""
        staged = _StagedMessage(settings["url"], settings["secret"], _message(delivery, host))
        staged.send("prepare")
        return staged


class _StagedMessage(StagedDelivery):
    def __init__(self, url: str, secret: str, message: JsonDict) -> None:
        self._url = url
        self._secret = secret
        self._message = message

    def commit(self) -> None:
        self.send("publish")

    def revert(self) -> None:
        self.send("revert")

    def send(self, event: str) -> None:
        body = json.dumps({"event": event, **self._message}, ensure_ascii=False).encode()
        post(self._url, body, {"Content-Type": "application/json", SIGNATURE: sign(self._secret, body)})


def sign(secret: str, body: bytes, now: int | None = None) -> str:
    """The value of the signature header."""
    moment = str(int(time.time()) if now is None else now)
    mac = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={mac}"


def post(url: str, body: bytes, headers: dict[str, str]) -> None:
    """One POST on the premises. Raises Forbidden("webhook_off_premises"), Unavailable("webhook_failed")."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        address = _address_of(host, port)
        with closing(http.client.HTTPConnection(str(address), port, timeout=TIMEOUT_S)) as connection:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, {"Host": parts.netloc, "Connection": "close", **headers})
            answer = connection.getresponse()
            answer.read(MOST_ANSWER_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable("webhook_failed", url=url, reason=str(error) or type(error).__name__) from error
    if not 200 <= answer.status < 300:
        raise Unavailable("webhook_failed", url=url, reason=f"HTTP {answer.status}")


def _is_plain(url: str) -> bool:
    """http, ASCII, with a host and a port that there can be, and no login."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "http" and bool(parts.hostname) and not parts.username and parts.port != 0 and url.isascii()
        )
    except ValueError:
        return False


def _address_of(host: str, port: int) -> IPv4Address | IPv6Address:
    """Where a name points, if that is on the premises."""
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address = ip_address(str(rows[0][4][0]).partition("%")[0])
    if not (address.is_private or address.is_loopback or address.is_link_local) or address.is_unspecified:
        raise Forbidden("webhook_off_premises", host=host, address=str(address))
    return address


def _message(delivery: Delivery, host: ChannelHost) -> JsonDict:
    place = f"{host.url}/v1/scripts/{delivery.script}/publications/{delivery.number}/lines"
    lines = [{**line.told(), "audio": f"{place}/{line.name}/audio"} for line in delivery.lines]
    return {**delivery.told(), "lines": lines}
