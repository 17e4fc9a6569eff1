"""The real daemon against guessers, old tokens and a disk that takes no more."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from box import tone_box, wait_until

SAY = "/tts?speaker=sine-440&text=The+shop+closes+in+ten+minutes"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    running = tone_box(tmp_path_factory.mktemp("guarded"), VOICED_HTTP__TRUST_LOOPBACK="false").start()
    yield running
    running.stop()


def call(box, path, method="GET", token=None, body=None):
    """Status, JSON document (or bytes), headers."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(box.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, content, received = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, content, received = error.code, error.read(), error.headers
    return status, json.loads(content) if "json" in received.get("Content-Type", "") else content, received


def owner(box):
    return (box.state_dir / "admin.token").read_text().strip()


def issue(box, **order):
    status, told, _ = call(box, "/v1/tokens", "POST", owner(box), order)
    assert status == 201, told
    return told


def voiced(box, *words):
    command = [sys.executable, "-m", "appliance", *words, "--state-dir", str(box.state_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_roles_scopes_and_ends_of_tokens(guarded):
    device = issue(guarded, role="device", voices=["sine-440"], doors=["tts"])
    assert call(guarded, SAY, token=device["token"])[0] == 200
    assert call(guarded, SAY.replace("440", "220"), token=device["token"])[1]["code"] == "voice_not_found"
    assert call(guarded, "/v1/system", token=device["token"])[1]["code"] == "role_not_allowed"
    assert call(guarded, "/v1/voices", token=device["token"])[1]["code"] == "door_not_allowed"
    short = issue(guarded, role="developer", expires_in_s=1)
    wait_until(lambda: call(guarded, "/v1/voices", token=short["token"])[0] == 401)
    assert call(guarded, "/v1/voices", token=short["token"])[1]["code"] == "token_expired"
    call(guarded, f"/v1/tokens/{device['id']}", "DELETE", owner(guarded))
    assert call(guarded, SAY, token=device["token"])[1]["code"] == "token_revoked"


def test_guessing_is_slowed_and_tokens_survive_a_restart(guarded):
    kept = issue(guarded, role="developer")
    statuses = [call(guarded, "/v1/voices", token=f"{kept['id']}.wrong{n}")[0] for n in range(20)]
    assert statuses[0] == 401 and statuses[-1] == 429 and statuses.count(401) < 10
    assert call(guarded, "/v1/voices", token=kept["token"])[0] == 200
    person = {"login": "mei", "role": "operator", "password": "correct horse battery"}
    assert call(guarded, "/v1/people", "POST", owner(guarded), person)[0] == 201
    tries = [call(guarded, "/v1/session", "POST", body={"login": "mei", "password": f"guess {n}"}) for n in range(9)]
    assert tries[0][0] == 401 and tries[-1][0] == 429 and int(tries[-1][2]["Retry-After"]) >= 1
    guarded.stop()
    guarded.start()
    assert call(guarded, "/v1/voices", token=kept["token"])[0] == 200


def test_when_the_disk_takes_no_more_deeds_are_refused_speech_goes_on_and_nothing_is_lost(guarded):
    token, pid = owner(guarded), guarded.process.pid
    consent = {"speaker": "Anna Li", "voice": "anna", "purposes": ["clone"], "statement": "I agree."}
    assert call(guarded, SAY, token=token)[0] == 200
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))  # every write to a file fails from now on
    try:
        for path, body in (("/v1/consents", consent), ("/v1/tokens", {"role": "device"}), ("/v1/tenants", {"id": "x"})):
            status, told, _ = call(guarded, path, "POST", token, body)
            assert (status, told["code"]) == (507, "storage_full"), path
        assert call(guarded, "/v1/voices/nobody", "DELETE", token)[0] == 507
        assert call(guarded, "/v1/audit/export", token=token)[0] == 507
        assert call(guarded, SAY, token=token)[0] == 200
        wait_until(lambda: call(guarded, "/v1/system", token=token)[1]["audit"]["problem"] == "storage_full", 20)
        assert b"voiced_audit_failing 1" in call(guarded, "/metrics", token=token)[1]
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    wait_until(
        lambda: call(guarded, "/v1/system", token=token)[1]["audit"] == {"waiting": 0, "lost": 0, "problem": ""}, 20
    )
    spoken = call(guarded, "/v1/audit?action=speech", token=token)[1]["items"]
    assert len(spoken) >= 2
    assert not call(guarded, "/v1/consents", token=token)[1]["items"]
    assert [row["id"] for row in call(guarded, "/v1/tenants", token=token)[1]["items"]] == ["main"]


def test_the_log_is_verified_exported_and_signed_for_from_the_command_line(guarded, tmp_path):
    note = voiced(guarded, "audit", "checkpoint")
    assert note.returncode == 0 and "\n\n— voiced-" in note.stdout, note.stderr
    (tmp_path / "note.txt").write_text(note.stdout)
    exported = voiced(guarded, "audit", "export", str(tmp_path / "log.ndjson"))
    assert exported.returncode == 0, exported.stderr
    script = [sys.executable, "-I", "docs/verify_audit.py", str(tmp_path / "log.ndjson")]
    script += ["--checkpoint", str(tmp_path / "note.txt"), "--key", str(guarded.state_dir / "keys/device.pub")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and "2 checkpoints" in done.stdout, done.stdout
    while_running = voiced(guarded, "audit", "verify", "--json", "--checkpoint", str(tmp_path / "note.txt"))
    assert while_running.returncode == 0 and json.loads(while_running.stdout)["intact"], while_running.stderr
    guarded.stop()
    assert voiced(guarded, "audit", "verify").returncode == 0
    tail = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DROP TRIGGER audit_no_delete'); "
    tail += "c.execute('DELETE FROM audit WHERE idx = 3'); c.commit()"
    subprocess.run([sys.executable, "-c", tail, str(guarded.state_dir / "voiced.db")], check=True, timeout=60)
    found = voiced(guarded, "audit", "verify", "--json")
    assert found.returncode == 1 and json.loads(found.stdout)["first_bad"] == 3
    assert "3" in found.stderr or found.stderr == ""
