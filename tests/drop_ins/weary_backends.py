"""Two real backends with faults, for tests of placement: "brittle" fails on long inputs, "sluggish" takes its time."""

from __future__ import annotations

import time

from appliance_plugins.backend_onnxruntime.backend import OnnxRuntimeBackend

from appliance.contracts import Session
from appliance.hookspecs import hookimpl

VOICED_API = 1
LONGEST = 20_000  # numbers in the largest input


class _Session(Session):
    def __init__(self, inner, is_brittle):
        self._inner, self._is_brittle = inner, is_brittle
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds):
        if self._is_brittle and max(values.size for values in feeds.values()) > LONGEST:
            raise RuntimeError("out of device memory")
        if not self._is_brittle:
            time.sleep(0.05)
        return self._inner.run(feeds)

    def close(self):
        self._inner.close()


class BrittleBackend(OnnxRuntimeBackend):
    name = "brittle"

    def load(self, artifact, options):
        return _Session(super().load(artifact, options), is_brittle=True)


class SluggishBackend(OnnxRuntimeBackend):
    name = "sluggish"

    def load(self, artifact, options):
        return _Session(super().load(artifact, options), is_brittle=False)


@hookimpl
def register_backends(register):
    register("brittle", BrittleBackend)
    register("sluggish", SluggishBackend)
