"""TLS for other machines, a plain door for this one, on one port."""

from __future__ import annotations

import asyncio
import ssl

import aiohttp
import pytest
from cryptography import x509
from open_box import TEXT, TOKEN, open_box

from appliance.cli.client import Client
from appliance.errors import Corrupt, Unavailable
from appliance.security import tls
from appliance.security.tls import ServerCertificate, fingerprint_of

pytestmark = pytest.mark.asyncio(loop_scope="session")
NEIGHBOUR = "127.0.0.2"  # on the wildcard's socket, as every address of the machine but 127.0.0.1


async def test_other_machines_meet_tls_and_this_one_a_plain_door(tmp_path):
    async with open_box(tmp_path, http={"host": "0.0.0.0"}) as box:
        assert box.url.startswith("http://127.0.0.1:")
        async with box.client.get("/ca.pem") as answer:
            pem = await answer.text()
        context = ssl.create_default_context(cadata=pem)
        outside = box.url.replace("http://127.0.0.1", f"https://{NEIGHBOUR}")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        params = {"speaker": "sine-440", "text": TEXT}
        async with aiohttp.ClientSession() as client:
            asked = client.get(
                f"{outside}/tts", params=params, headers=headers, ssl=context, server_hostname="localhost"
            )
            async with asked as answer:
                assert answer.status == 200 and (await answer.read())[:4] == b"RIFF"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client.get(outside, server_hostname="localhost")  # an authority that nobody trusted yet
            with pytest.raises(aiohttp.ClientError):
                await client.get(outside.replace("https", "http"))
            body = {"login": "nobody", "password": "x"}
            wrong = client.post(f"{outside}/v1/session", json=body, ssl=context, server_hostname="localhost")
            async with wrong as answer:
                assert answer.status == 401


async def test_with_tls_required_this_machine_speaks_it_too_and_the_command_line_follows(tmp_path):
    async with open_box(tmp_path, http={"tls": "required"}) as box:
        assert box.url.startswith("https://127.0.0.1:")
        client = Client(box.url, TOKEN, authority=tmp_path / "keys" / tls.AUTHORITY)
        assert (await asyncio.to_thread(client.get, "/healthz"))["status"] == "ok"
        with pytest.raises(Unavailable, match="daemon_unreachable"):
            await asyncio.to_thread(Client(box.url, TOKEN).get, "/healthz")


async def test_tls_can_be_left_out(tmp_path):
    async with open_box(tmp_path, http={"host": "0.0.0.0", "tls": "off"}) as box:
        answer = await box.client.get(box.url.replace("127.0.0.1", NEIGHBOUR) + "/healthz")
        assert answer.status == 200


async def test_a_taken_port_is_still_noticed(tmp_path):
    async with open_box(tmp_path / "one", http={"host": "0.0.0.0"}) as box:
        port = int(box.url.rpartition(":")[2])
        with pytest.raises(Unavailable, match="http_address_in_use"):
            async with open_box(tmp_path / "two", http={"host": "0.0.0.0", "port": port}):
                pass


def names(folder):
    known = x509.load_pem_x509_certificate((folder / tls.SERVER).read_bytes())
    return known, {
        str(one.value) for one in known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    }


async def test_the_server_certificate_follows_the_addresses_and_the_authority_stays(tmp_path):
    first = ServerCertificate(tmp_path, "Counter")
    assert first.cover(["192.168.1.20"]) and not first.cover(["192.168.1.20"])
    again = ServerCertificate(tmp_path, "Counter")
    assert again.fingerprint == first.fingerprint == fingerprint_of((tmp_path / tls.AUTHORITY).read_bytes())
    assert not again.cover(["192.168.1.20"])
    assert again.cover(["10.0.0.7", "fe80::1%eth0"])
    known, told = names(tmp_path)
    assert {"localhost", "127.0.0.1", "::1", "10.0.0.7", "fe80::1"} <= told
    assert (known.not_valid_after_utc - known.not_valid_before_utc).days <= 398
    for file in (tls.AUTHORITY_KEY, tls.SERVER):
        assert (tmp_path / file).stat().st_mode & 0o077 == 0
    served = (tmp_path / tls.SERVER).read_text()
    (tmp_path / tls.SERVER).write_text(served[: served.index("-----BEGIN PRIVATE")] + "nonsense")
    assert ServerCertificate(tmp_path, "Counter").cover(["10.0.0.7"])  # made anew
    (tmp_path / tls.AUTHORITY_KEY).write_text("nonsense")
    with pytest.raises(Corrupt, match="tls_key_damaged"):
        ServerCertificate(tmp_path, "Counter")
