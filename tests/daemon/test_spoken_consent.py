"""Consent by word of mouth, heard by the real recogniser; a synthetic speaker plays the person."""

from __future__ import annotations

import aiohttp
import pytest

WORDS = (
    "The train to the coast leaves from platform nine this morning, and I agree that it is a good day for it."
    " My name is on the list of passengers, and my number is written on the ticket."
)


async def post(session: aiohttp.ClientSession, path: str, **order):
    async with session.post(path, **order) as answer:
        return answer.status, await answer.json()


async def spoken(session: aiohttp.ClientSession, speaker: str, text: str, speed: str = "0.9") -> bytes:
    query = {"speaker": speaker, "text": text, "stream": "false", "speed": speed}
    async with session.get("/tts", params=query) as answer:
        assert answer.status == 200
        return await answer.read()


async def ask(session: aiohttp.ClientSession) -> dict:
    order = {"speaker": "alpha", "voice": "alpha", "purposes": ["clone", "speak"], "language": "en"}
    status, statement = await post(session, "/v1/consent-statements", json=order)
    assert status == 201, statement
    return statement


@pytest.mark.timeout(400)
async def test_a_statement_counts_in_the_speakers_voice_and_once(speaking):
    async with aiohttp.ClientSession(speaking.url, timeout=aiohttp.ClientTimeout(300)) as session:
        sample = await spoken(session, "jf_alpha", WORDS)
        form = {"speaker": "alpha", "transcript": WORDS}
        status, recording = await post(session, "/v1/recordings", data=sample, params=form)
        assert status == 201, recording

        statement = await ask(session)
        path = f"/v1/consent-statements/{statement['id']}"
        other = await spoken(session, "jm_kumo", statement["statement"])
        status, problem = await post(session, path, data=other)
        assert (status, problem["code"]) == (403, "consent_other_voice"), problem
        wrong = await spoken(session, "jf_alpha", "I agree to everything, and today's number is 0 0 0, 0 0 0.")
        status, problem = await post(session, path, data=wrong)
        assert (status, problem["code"]) == (403, "consent_phrase_not_heard"), problem

        for speed in ("0.9", "0.8", "1.0"):  # the digits are others every time: who is misheard reads again
            right = await spoken(session, "jf_alpha", statement["statement"], speed)
            status, consent = await post(session, path, data=right)
            if status == 201:
                break
        assert status == 201, consent
        assert (consent["strength"], consent["voice"], consent["purposes"]) == ("spoken", "alpha", ["clone", "speak"])
        assert consent["evidence"].startswith("rec")
        status, problem = await post(session, path, data=right)
        assert (status, problem["code"]) == (403, "challenge_over")
