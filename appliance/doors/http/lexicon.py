"""`/v1/lexicon`: how words are read for this tenant."""

from __future__ import annotations

from aiohttp import web

from appliance.contracts import Pronunciation
from appliance.doors.http.access import principal_of
from appliance.doors.http.answers import answer_json, answer_page
from appliance.doors.http.bodies import read_query, read_record
from appliance.doors.http.routes import Answer, Body, Route
from appliance.doors.http.services import services_of
from appliance.doors.http.voice_schemas import LexiconQuery, LexiconTold, ReadingAsked, ReadingTold, WordQuery


async def list_words(request: web.Request) -> web.Response:
    """`GET /v1/lexicon`."""
    asked, tenant = read_query(request, LexiconQuery), principal_of(request).tenant
    page = await services_of(request).lexicon.list(tenant, asked.language, asked.cursor, asked.limit)
    return answer_page(page.items, page.next)


async def set_word(request: web.Request) -> web.Response:
    """`PUT /v1/lexicon`: the word is in the body, because words may hold slashes."""
    asked = await read_record(request, ReadingAsked)
    new = Pronunciation(asked.word, asked.reading, asked.language)
    return answer_json(await services_of(request).lexicon.put(principal_of(request).tenant, new))


async def remove_word(request: web.Request) -> web.Response:
    """`DELETE /v1/lexicon?language=zh&word=重庆`."""
    asked = read_query(request, WordQuery)
    await services_of(request).lexicon.delete(principal_of(request).tenant, asked.language, asked.word)
    return web.Response(status=204)


_PATH = "/v1/lexicon"
ROUTES = (
    Route(
        "GET",
        _PATH,
        list_words,
        "List words with a reading of their own",
        "lexicon",
        (Answer(200, "words by language", LexiconTold),),
        query=LexiconQuery,
    ),
    Route(
        "PUT",
        _PATH,
        set_word,
        "Say how a word is read",
        "lexicon",
        (Answer(200, "the word as it is kept", ReadingTold),),
        body=Body(ReadingAsked),
    ),
    Route(
        "DELETE",
        _PATH,
        remove_word,
        "Let a word be read as before",
        "lexicon",
        (Answer(204, "gone"),),
        query=WordQuery,
    ),
)
