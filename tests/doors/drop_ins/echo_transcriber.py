"""A recogniser that always hears the same words, and two routes: what a site's own plugin looks like."""

from __future__ import annotations

from appliance.contracts import Probe, Transcriber, Transcript
from appliance.errors import NotFound
from appliance.hookspecs import hookimpl

VOICED_API = 1


class EchoTranscriber(Transcriber):
    name = "echo"
    languages = ("zh", "en")

    def probe(self):
        return Probe(usable=True)

    def load(self, threads, cache_dir):
        pass

    def transcribe(self, audio, language=None):
        return Transcript("every time the same words", language or "en", 0.9)


async def tell_weather(request):
    """The weather, as JSON values."""
    return {"city": request.query.get("city", ""), "is_raining": False}


def refuse(request):
    """Not async, and it fails on purpose."""
    raise NotFound("route_not_found", path="the umbrella")


@hookimpl
def register_transcribers(register):
    register("echo", EchoTranscriber)


@hookimpl
def register_routes(register):
    register("GET", "/x/weather", tell_weather)
    register("GET", "/x/umbrella", refuse)
    register("GET", "/v1/elsewhere", tell_weather)
