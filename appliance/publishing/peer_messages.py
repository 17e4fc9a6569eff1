"""Messages between paired boxes: what their signature covers, in which lane they are numbered, how one is sent."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from appliance.contracts import JsonDict
from appliance.errors import Forbidden, InvalidInput, Unavailable

TIMEOUT_S = 30.0
MOST_ANSWER_BYTES = 1 << 22
PEER, NUMBER, SIGNATURE = "X-Voiced-Peer", "X-Voiced-Number", "X-Voiced-Signature"
DIGEST = "X-Voiced-Digest"  # SHA-256 of the body: who signed for it is known before the body is read
QUESTIONS = "questions"  # messages that change nothing: one that is heard again after a power cut does no harm
LANES = ("announcements", "sounds", QUESTIONS)  # of `/v1/peer/LANE/…`; all other messages share one lane, ""


def lane_of(path: str) -> str:
    """Messages of one lane are numbered together and arrive in order; lanes do not wait for each other."""
    parts = path.split("/")
    return parts[3] if len(parts) > 3 and parts[3] in LANES else ""


def message_bytes(method: str, path: str, number: int, digest: str, receiver: str) -> bytes:
    """What a message's signature covers; `digest` is the SHA-256 of its body."""
    return "\n".join(("voiced peer message", receiver, method, path, str(number), digest)).encode()


@dataclass(frozen=True)
class Address:
    """Where a box answers, and whose certificates are believed there; nobody's yet while two boxes are pairing: then
    the code proves who answers.
    """

    url: str
    authority: str = ""
    timeout_s: float = TIMEOUT_S

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is not open yet. Raises InvalidInput("peer_url_invalid"), ssl.SSLError."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("peer_url_invalid", url=self.url[:200])
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=self.timeout_s)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authority:
            context.load_verify_locations(cadata=self.authority)
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=self.timeout_s, context=context)


def exchange(address: Address, method: str, path: str, body: bytes, headers: dict[str, str]) -> JsonDict:
    """One exchange with another box.

    Raises Unavailable("peer_unreachable"; "peer_declined" where asking again is of no use), or what the box says.
    """
    url = address.url
    try:
        with closing(address.connect()) as connection:
            kind = {"Content-Type": "application/json"} if method == "POST" else {}
            connection.request(method, path, body or None, {"Connection": "close", **kind, **headers})
            answer = connection.getresponse()
            document = _parse_object(answer.read(MOST_ANSWER_BYTES) or b"{}")
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unavailable("peer_unreachable", url=url, reason=str(error) or type(error).__name__) from error
    if answer.status == 403:
        raise Forbidden(str(document.get("code", "peer_refused")))
    if answer.status >= 400:
        code = "peer_declined" if _is_final(answer.status, document) else "peer_unreachable"
        raise Unavailable(code, url=url, reason=str(document.get("detail", answer.status))[:200])
    return document


def _parse_object(answer: bytes) -> JsonDict:
    document = json.loads(answer)
    if not isinstance(document, dict):
        raise ValueError("what answers is no box")
    return document


def _is_final(status: int, document: JsonDict) -> bool:
    """Whether an answer would be the same a moment later."""
    return 400 <= status < 500 and status not in (408, 429) and document.get("code") != "publication_running"
