"""An engine of one tiny network, spoken to through placement: as many samples as the text's length times 1000."""

from __future__ import annotations

import hashlib

import numpy as np

from appliance.contracts import Artifact, Audio, AudioChunk, Engine, Probe
from appliance.engine.placement import place
from appliance.engine.placement_records import Network
from appliance.hookspecs import hookimpl

VOICED_API = 1


def write_doubler(folder):
    """A file of the network: y = 2 x."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        "doubler",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    path = folder / "doubler.onnx"
    path.write_bytes(content)
    return Artifact(path, "onnx", hashlib.sha256(content).hexdigest())


def doubler(folder):
    return Network(
        "matrix",
        "doubler",
        (write_doubler(folder),),
        lambda: [{"x": np.full(size, 0.25, np.float32)} for size in (100, 1000)],
        lambda ours, theirs: float(np.abs(ours["y"] - theirs["y"]).max()),
        1e-3,
    )


class MatrixEngine(Engine):
    name = "matrix"
    sample_rate = 24_000
    languages = ("zh", "en", "ja")

    def probe(self):
        return Probe(usable=True)

    def starter_voices(self):
        return ()

    def load(self, host):
        self._placed = place(doubler(host.cache_dir), host)

    def speak(self, task, cancelled):
        samples = self._placed.run({"x": np.full(1000 * len(task.text), 0.25, np.float32)})["y"]
        yield AudioChunk(Audio(samples, self.sample_rate))

    def reconsider(self):
        self._placed.reconsider()

    def placement(self):
        return tuple(vars(record) for record in self._placed.records)


@hookimpl
def register_engines(register):
    register("matrix", MatrixEngine)
