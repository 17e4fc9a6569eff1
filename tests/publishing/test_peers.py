"""Two real boxes on sockets: pairing, signed messages, and renditions that travel once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import time

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from open_pair import opened

from appliance.audio.encoding import encode_audio
from appliance.doors.http.app import make_app
from appliance.errors import Forbidden, Unavailable
from appliance.publishing import peers
from appliance.publishing.peer_channel import offer_of
from appliance.publishing.peer_messages import DIGEST, NUMBER, PEER, SIGNATURE, Address, exchange, message_bytes
from appliance.security.tls import ServerCertificate
from appliance.voices.records import NewRendition

pytestmark = pytest.mark.asyncio(loop_scope="module")
BROKEN_HOOK = {"kind": "webhook", "settings": {"url": "http://127.0.0.1:9/", "secret": "a secret of a test"}}


async def test_a_code_pairs_once_and_only_the_right_one(pair):
    first, second, paired = pair
    assert paired["id"] == second.office.peers.introduce()["uuid"]
    rows = (await second("GET", "/v1/peers"))["items"]
    assert [row["id"] for row in rows] == [first.office.peers.introduce()["uuid"]]
    invitation = await second("POST", "/v1/peers/invitations", 201)
    wrong = "A" * 5 + "-" + "B" * 5
    for _ in range(5):
        refused = await first("POST", "/v1/peers", 403, json={"url": second.url, "code": wrong})
        assert refused["code"] == "pairing_refused"
    late = await first("POST", "/v1/peers", 403, json={"url": second.url, "code": invitation["code"]})
    assert late["code"] == "pairing_refused"  # five wrong attempts end an invitation
    again = await second("POST", "/v1/peers/invitations", 201)
    await first("POST", "/v1/peers", 201, json={"url": second.url, "code": again["code"].lower()})
    used = await first("POST", "/v1/peers", 403, json={"url": second.url, "code": again["code"]})
    assert used["code"] == "pairing_refused"


async def test_a_publication_reaches_the_other_box_and_nothing_is_sent_twice(pair):
    first, second, paired = pair
    order = {"kind": "peer", "settings": {"peer": paired["id"], "patience_s": "5"}, "scripts": ["chain"]}
    await first("PUT", "/v1/channels/branch", json=order)
    await second("PUT", "/v1/channels/local", json={"kind": "folder", "settings": {"path": "local"}})
    texts = {f"l{number}": f"Branch line {number}." for number in range(6)}
    await first.save("chain", texts)
    sent = _count_parts(second)
    published = await first.publish("chain")
    assert published["state"] == "published", published
    there = await second("GET", "/v1/scripts/chain")
    assert there["published"] == 1
    theirs = await second("GET", "/v1/scripts/chain/publications/1")
    assert [line["rendition"] for line in theirs["lines"]] == [line["rendition"] for line in published["lines"]]
    for name in texts:
        sounds = [await _sound(box, name) for box in (first, second)]
        assert sounds[0] == sounds[1] != b""
    assert sent["parts"] == 6
    assert (second.box.services.settings.state_dir / "exports/main/local/chain/l0.wav").is_file()
    await first.save("chain", {**texts, "l2": "Branch line two is new."})
    assert (await first.publish("chain"))["state"] == "published"
    assert sent["parts"] == 7  # one line changed, one file travelled
    await first.roll_back("chain")
    assert sent["parts"] == 7
    assert (await second("GET", "/v1/scripts/chain"))["published"] == 3


async def test_a_cut_cable_is_waited_for_and_goes_on_where_it_broke_off(pair, monkeypatch):
    first, _, paired = pair
    from appliance.publishing import peer_channel

    monkeypatch.setattr(peer_channel, "CHUNK_BYTES", 2048)
    monkeypatch.setattr(peer_channel, "RETRY_S", 0.05)
    order = {"kind": "peer", "settings": {"peer": paired["id"], "patience_s": "10"}, "scripts": ["cable"]}
    await first("PUT", "/v1/channels/cable", json=order)
    await first.save("cable", {"a": "A line long enough to be sent in several pieces over the wire."})
    true_exchange, calls = exchange, {"puts": 0, "cut": 0}

    def cut(address, method, path, body, headers):
        if method == "PUT":
            calls["puts"] += 1
            if 3 <= calls["puts"] < 8:
                calls["cut"] += 1
                raise Unavailable("peer_unreachable", url=address.url, reason="the cable is out")
        return true_exchange(address, method, path, body, headers)

    monkeypatch.setattr(peers, "exchange", cut)
    published = await first.publish("cable")
    assert published["state"] == "published" and calls["cut"] == 5
    delivery = await first.office.publisher.delivery(await first.office.publications.get("main", "cable", 1))
    size = delivery.lines[0].path.stat().st_size
    assert calls["puts"] - calls["cut"] == -(-size // 2048)  # no piece travelled twice


async def test_a_peer_that_stays_away_changes_nothing(pair):
    first, second, paired = pair
    await first.office.peers.relocate(paired["id"], "http://127.0.0.1:9")
    order = {"kind": "peer", "settings": {"peer": paired["id"], "patience_s": "0"}, "scripts": ["away"]}
    await first("PUT", "/v1/channels/away", json=order)
    await first.save("away", {"a": "Nobody is there."})
    failed = await first.publish("away")
    assert failed["state"] == "failed" and failed["error"]["code"] == "channel_failed"
    assert (await first("GET", "/v1/scripts/away"))["published"] is None
    await first.office.peers.relocate(paired["id"], second.url)
    assert (await first.publish("away"))["state"] == "published"


async def test_a_stranger_and_a_repeated_message_are_refused(pair):
    first, second, _ = pair
    me = first.office.peers._me
    there = second.office.peers.introduce()["uuid"]
    body = json.dumps({"script": "x", "title": "", "publication": 1, "revision": 1, "lines": []}).encode()
    number = first.office.peers._next_number(there)

    def headers(key, body=body, number=number, receiver=there, uuid=me.uuid):
        signature = key.sign(message_bytes("POST", "/v1/peer/offers", number, _digest(body), receiver))
        return {PEER: uuid, NUMBER: str(number), SIGNATURE: signature.hex(), "Content-Type": "application/json"}

    async def send(given, content=body):
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{second.url}/v1/peer/offers", data=content, headers=given) as answer,
        ):
            return answer.status, (await answer.json(content_type=None)).get("code")

    good = headers(me.key)
    assert (await send(good, body + b" "))[0] == 403  # another body
    assert (await send(headers(me.key, receiver="another box")))[0] == 403
    assert (await send(headers(second.office.peers._me.key)))[0] == 403  # another key
    assert (await send({**good, PEER: "nobody"}))[0] == 403
    assert (await send({**good, NUMBER: "-1"}))[0] == 403
    assert await send({}) == (403, "peer_refused")
    assert (await send(good))[0] == 200
    assert await send(good) == (403, "peer_refused")  # heard before
    assert (await send(headers(me.key, number=number - 1)))[0] == 403
    await first.office.peers.pair("main", second.url, second.office.peers.invite("main")["code"])
    assert await send(good) == (403, "peer_refused")  # heard before they were paired once more
    for uuid, key in (("x", "zz"), ("..", "00" * 32), ("../up", "00" * 32), ("", "00" * 32)):
        with pytest.raises(Forbidden):
            peers._introduced({"uuid": uuid, "public_key": key})


async def test_a_paired_box_gets_no_sound_of_another_tenant_by_naming_its_digest(pair):
    """Files are kept once for all tenants, but who has not sent one does not have it."""
    first, second, paired = pair
    content = encode_audio(np.sin(np.arange(24_000) / 7).astype(np.float32) * 0.3, 24_000, "flac")
    secret = NewRendition(content, "bun", 1, "Buns.", "en", 1, 1.0)
    digest = (await second.box.services.renditions.add("bakery", secret)).sha256
    send = (await first.office.peers.links("main"))[paired["id"]].send
    line = {"name": "one", "line": "one", "text": "Buns.", "language": "en", "voice_version": "sine-440@1"}
    line |= {"rendition": "a" * 64, "sha256": digest, "duration_s": 1.0}
    offer = {"script": "taken", "title": "", "publication": 1, "revision": 1, "lines": [line]}

    async def ask(method: str, path: str, body: bytes):
        return await asyncio.to_thread(send, method, path, body)

    told = await ask("POST", "/v1/peer/offers", json.dumps(offer).encode())
    assert told["missing"] == [{"sha256": digest, "have": 0}]
    with pytest.raises(Unavailable, match="peer_declined"):
        await ask("POST", f"/v1/peer/offers/{told['offer']}/commit", b"{}")
    assert (await second("GET", "/v1/scripts/taken", 404))["code"] == "script_not_found"
    part = await ask("PUT", f"/v1/peer/blobs/{digest}/{len(content)}/0", content)  # who has it may send it
    assert part["is_complete"]
    assert (await ask("POST", "/v1/peer/offers", json.dumps(offer).encode()))["missing"] == []
    await ask("POST", f"/v1/peer/offers/{told['offer']}/commit", b"{}")
    assert await _line_sound(second, "taken", "one") == content


async def test_a_commit_whose_answer_was_lost_carries_the_same_publication(pair):
    """The other box is asked again, after a time-out or a restart on either side: nothing is published twice."""
    first, second, paired = pair
    order = {"kind": "peer", "settings": {"peer": paired["id"]}, "scripts": ["lost-answer"]}
    await first("PUT", "/v1/channels/lost-answer", json=order)
    await first.save("lost-answer", {"a": "Only once, please."})
    begun = await first.publish("lost-answer")
    row = await first.office.publications.get("main", "lost-answer", begun["number"])
    body = json.dumps(offer_of(await first.office.publisher.delivery(row))).encode()
    send = (await first.office.peers.links("main"))[paired["id"]].send
    offer = (await asyncio.to_thread(send, "POST", "/v1/peer/offers", body))["offer"]
    for noted in second.office.offers._folder.glob(f"*/*/{offer}/publication"):
        noted.unlink()  # the box was killed before it had written that down
    again = await asyncio.to_thread(send, "POST", f"/v1/peer/offers/{offer}/commit", b"{}")
    assert again["publication"] == 1
    assert len((await second("GET", "/v1/scripts/lost-answer/publications"))["items"]) == 1
    assert (await first.publish("lost-answer"))["state"] == "published"  # another publication of the same lines is one
    assert len((await second("GET", "/v1/scripts/lost-answer/publications"))["items"]) == 2


async def test_what_a_paired_box_declines_is_not_asked_again_and_again(pair):
    first, second, paired = pair
    order = {"kind": "peer", "settings": {"peer": paired["id"]}, "scripts": ["declined"]}
    await first("PUT", "/v1/channels/declined", json=order)
    await second("PUT", "/v1/channels/broken", json={**BROKEN_HOOK, "scripts": ["declined"]})
    await first.save("declined", {"a": "Its own channel there is broken."})
    failed = await first.publish("declined")
    assert failed["state"] == "failed"
    tried = (await second("GET", "/v1/scripts/declined/publications"))["items"]
    assert [row["state"] for row in tried] == ["failed"]
    await second("DELETE", "/v1/channels/broken", 204)


async def test_a_file_that_was_there_when_the_box_went_down_arrives_with_the_next_publication(pair):
    """All its bytes had come; that they are the right ones had not been looked at. Or there are too many of them."""
    first, second, paired = pair
    order = {"kind": "peer", "settings": {"peer": paired["id"], "patience_s": "0"}, "scripts": ["torn"]}
    await first("PUT", "/v1/channels/torn", json=order)
    place = second.office.offers._folder / "main" / first.office.peers.introduce()["uuid"]
    for text, tail in (("Whole, but not looked at.", b""), ("Longer than it was.", b"x")):
        await first.save("torn", {"a": text})
        await first("DELETE", "/v1/channels/torn", 204)
        row = await first.office.publications.get("main", "torn", (await first.publish("torn"))["number"])
        (line,) = (await first.office.publisher.delivery(row)).lines
        (place / f"{line.sha256}.part").write_bytes(line.path.read_bytes() + tail)
        await first("PUT", "/v1/channels/torn", json=order)
        states = [(await first.publish("torn"))["state"] for _ in range(1 + len(tail))]
        assert states[-1] == "published", states


async def test_what_a_paired_box_left_unfinished_does_not_lie_there_for_ever(pair):
    first, second, paired = pair
    place = second.office.offers._folder / "main" / first.office.peers.introduce()["uuid"]
    (place / "0ld").mkdir(parents=True)
    for path, age_days in (("0ld", 8), (f"{'0' * 64}.part", 8), (f"{'1' * 64}.part", 1), (f"{'2' * 64}.here", 8)):
        (place / path).touch()
        os.utime(place / path, (time.time() - age_days * 86_400,) * 2)
    send = (await first.office.peers.links("main"))[paired["id"]].send
    offer = {"script": "tidy", "title": "", "publication": 1, "revision": 1, "lines": []}
    await asyncio.to_thread(send, "POST", "/v1/peer/offers", json.dumps(offer).encode())
    assert not {"0ld", f"{'0' * 64}.part", f"{'2' * 64}.here"} & {path.name for path in place.iterdir()}
    assert (place / f"{'1' * 64}.part").is_file()


async def test_pairing_is_written_down_on_both_sides(pair):
    for box, other in (pair[:2], pair[1::-1]):
        query = "SELECT count(*) FROM audit WHERE action = 'peer.pair' AND subject = ?"
        uuid = other.office.peers.introduce()["uuid"]
        assert await box.box.services.db.read(lambda db, uuid=uuid: db.execute(query, (uuid,)).fetchone()[0])


async def test_a_strangers_list_is_not_even_read(pair):
    """It may be tens of megabytes: whoever has not signed for them is refused before a byte is in memory."""
    first, second, _ = pair
    signed = f"{PEER}: {first.office.peers.introduce()['uuid']}\r\n{NUMBER}: 1\r\n{SIGNATURE}: 00\r\n"
    for claim, status in ((f"{signed}{DIGEST}: {'a' * 64}\r\n", b"403"), (signed, b"413")):
        head = f"POST /v1/peer/offers HTTP/1.1\r\nHost: box\r\n{claim}Content-Length: 60000000\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(second.url.rpartition(":")[2]))
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readline(), 20)  # while the body has not come
        writer.close()
        assert answer.split()[1] == status


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _line_sound(box, script: str, line: str) -> bytes:
    async with box.box.client.get(f"/v1/scripts/{script}/publications/1/lines/{line}/audio") as answer:
        return await answer.read()


async def test_lanes_count_their_messages_apart_and_nothing_is_said_for_a_box_without_leave(pair):
    first, second, paired = pair
    me, there = first.office.peers._me, second.office.peers.introduce()["uuid"]
    question = json.dumps({"zone": "main", "ids": []}).encode()
    numbers = [first.office.peers._next_number(there) for _ in range(2)]

    async def send(path: str, number: int, body: bytes = question, signed: str = ""):
        signature = me.key.sign(message_bytes("POST", signed or path, number, _digest(body), there))
        given = {PEER: me.uuid, NUMBER: str(number), SIGNATURE: signature.hex(), "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{second.url}{path}", data=body, headers=given) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    questions, orders = "/v1/peer/questions/announcements", "/v1/peer/announcements"
    offer = json.dumps({"script": "x", "title": "", "publication": 1, "revision": 1, "lines": []}).encode()
    assert (await send("/v1/peer/offers", numbers[1], offer))[0] == 200
    status, told = await send(questions, numbers[0])  # an earlier number, in another lane
    assert (status, told["zone"]["code"], told["orders"]) == (200, "peer_may_not_announce", {})
    assert (await send(questions, numbers[0]))[0] == 403  # heard before
    assert (await send(orders, numbers[1] + 10, signed=questions))[0] == 403  # signed for another lane
    order = {
        "id": "a-1",
        "zone": "main",
        "text": "Let me in.",
        "language": "en",
        "priority": "normal",
        "volume": 1.0,
        "chime": False,
        "repeats": 1,
        "pause_s": 0.0,
        "interrupted": "restart",
        "left_s": 60.0,
        "sound": "0" * 64,
        "is_final": True,
    }
    status, told = await send(orders, numbers[1] + 20, json.dumps(order).encode())
    assert (status, told) == (200, {"state": "refused", "code": "peer_may_not_announce"})
    links = await first.office.peers.links("main")
    piece = f"/v1/peer/sounds/{'0' * 64}/3/0"
    with pytest.raises(Forbidden, match="peer_may_not_announce"):
        await asyncio.to_thread(links[paired["id"]].send, "PUT", piece, b"abc")
    for wrong in ({**order, "left_s": 0}, {**order, "priority": "loud"}, {**order, "more": 1}, {}):
        numbers[1] += 100
        assert (await send(orders, numbers[1], json.dumps(wrong).encode()))[0] == 422


async def test_a_box_that_was_removed_is_a_stranger(pair):
    first, second, paired = pair
    order = {"kind": "peer", "settings": {"peer": paired["id"], "patience_s": "0"}, "scripts": ["gone"]}
    await first("PUT", "/v1/channels/gone", json=order)
    await second("DELETE", f"/v1/peers/{first.office.peers.introduce()['uuid']}", 204)
    await first.save("gone", {"a": "Are you there?"})
    failed = await first.publish("gone")
    assert failed["state"] == "failed" and failed["error"]["code"] == "channel_failed"


async def _sound(box, name: str) -> bytes:
    async with box.box.client.get(f"/v1/scripts/chain/publications/1/lines/{name}/audio") as answer:
        assert answer.status == 200
        return await answer.read()


def _count_parts(box) -> dict[str, int]:
    """How many pieces of files a box is sent from now on."""
    counts, put = {"parts": 0}, box.office.offers.put

    async def counting(*given):
        counts["parts"] += 1
        return await put(*given)

    box.office.offers.put = counting
    return counts


async def test_boxes_that_speak_tls_believe_only_each_others_authority(tmp_path):
    """Over a wildcard address the LAN is spoken to with TLS; the one that was paired with is recognised by it."""

    pems = [ServerCertificate(tmp_path / str(number) / "keys", f"Box {number}").authority for number in (1, 2)]
    async with opened(tmp_path / "1" / "state") as first, opened(tmp_path / "2" / "state") as second:
        for box, pem in zip((first, second), pems, strict=True):
            object.__setattr__(box.office.peers._me, "authority", pem)
        object.__setattr__(second.office.peers._me, "uuid", "5e1f0c2a-0000-4000-8000-000000000002")
        keys = ServerCertificate(tmp_path / "2" / "keys", "Box 2")
        keys.cover(["127.0.0.1"])
        runner = web.AppRunner(make_app(second.box.services))
        await runner.setup()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            site = web.SockSite(runner, listener, ssl_context=keys.context)
            await site.start()
            url = f"https://127.0.0.1:{listener.getsockname()[1]}"
            code = (await second("POST", "/v1/peers/invitations", 201))["code"]
            paired = await first("POST", "/v1/peers", 201, json={"url": url, "code": code})
            links = await first.office.peers.links("main")
            body = json.dumps({"script": "x", "title": "", "publication": 1, "revision": 1, "lines": []}).encode()
            send = links[paired["id"]].send
            answer = await asyncio.to_thread(send, "POST", "/v1/peer/offers", body)
            assert answer["missing"] == []
            wrong = Address(url, pems[0])  # another box's authority
            with pytest.raises(Unavailable, match="peer_unreachable"):
                await asyncio.to_thread(exchange, wrong, "GET", "/v1/peer", b"", {})
            await runner.cleanup()
