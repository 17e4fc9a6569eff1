"""The table of roles, and waiting that grows."""

from __future__ import annotations

import pytest

from appliance.doors.http.app import BUILT_IN
from appliance.security.permissions import ROLES, RULES, covers, door_of, may, operation_of
from appliance.security.throttle import FREE, LONGEST_S, Throttle


def test_every_rule_has_a_route_and_every_operation_of_a_role_a_rule():
    operations = {rule.reading for rule in RULES} | {rule.writing for rule in RULES}
    assert not set().union(*ROLES.values()) - operations
    for rule in RULES:
        assert any(path.path.startswith(rule.prefix) for path in BUILT_IN) or rule.prefix == "/x/", rule


@pytest.mark.parametrize(
    ("role", "can", "cannot"),
    [
        ("owner", ("tenants.write", "speak", "audit.read"), ()),
        ("tenant-admin", ("tokens.write", "people.write", "consents.write", "audit.read"), ("tenants.write",)),
        ("voice-steward", ("consents.write", "jobs.write", "voices.write", "speak"), ("tokens.read", "audit.read")),
        ("operator", ("announcements.write", "system.read", "speak"), ("voices.write", "recordings.read")),
        ("developer", ("speak", "voices.read", "lexicon.write"), ("recordings.read", "announcements.write")),
        ("auditor", ("audit.read", "consents.read"), ("speak", "recordings.read", "consents.write", "audit.write")),
        ("device", ("speak", "voices.read"), ("lexicon.write", "jobs.read", "consents.read", "recordings.read")),
        ("nobody", (), ("speak", "self")),
    ],
)
def test_what_each_role_may(role, can, cannot):
    assert all(may(role, operation) for operation in can)
    assert not any(may(role, operation) for operation in (*cannot, None) if role != "owner")


def test_nobody_hands_out_more_than_they_have():
    assert covers("owner", "owner") and covers("tenant-admin", "tenant-admin") and covers("tenant-admin", "auditor")
    assert not covers("tenant-admin", "owner") and not covers("operator", "voice-steward")
    assert not covers("owner", "emperor")


def test_the_longest_rule_counts_and_a_prefix_ends_at_a_slash():
    assert operation_of("GET", "/v1/audio/voices") == "voices.read"
    assert operation_of("POST", "/v1/audio/speech") == "speak"
    assert operation_of("GET", "/v1/tokensandmore") is None
    assert operation_of("GET", "/x/weather") == "plugins.use"
    assert [door_of(path) for path in ("/tts", "/v1/audio/speech", "/v1/voices")] == ["tts", "openai", "api"]


def test_every_wrong_guess_makes_the_next_wait_longer_until_an_hour_of_peace():
    now = 0.0
    throttle = Throttle(lambda: now)
    waits = []
    for _ in range(FREE + 14):
        throttle.failed("somebody")
        waits.append(throttle.wait_s("somebody"))
    assert waits[: FREE - 1] == [0.0] * (FREE - 1)
    assert waits[FREE - 1 : FREE + 4] == [1, 2, 4, 8, 16]
    assert waits[-1] == LONGEST_S
    assert throttle.wait_s("somebody else") == 0
    now = LONGEST_S + 1
    assert throttle.wait_s("somebody") == 0
    throttle.failed("somebody")
    assert throttle.wait_s("somebody") == LONGEST_S
    now += 3601
    assert throttle.failed("somebody") == 1
    throttle.succeeded("somebody")
    assert throttle.wait_s("somebody") == 0


def test_strangers_cannot_fill_the_memory(monkeypatch):
    monkeypatch.setattr("appliance.security.throttle.MOST_KEYS", 3)
    throttle = Throttle()
    for number in range(50):
        throttle.failed(str(number))
    assert len(throttle._failures) == 3
