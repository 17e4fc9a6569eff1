"""Every way by which speech comes into the box passes the voiceprint gate; the ways are read from the code."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
WAYS_IN = {
    "appliance/collecting/reading.py",  # a prompt of a sheet was read
    "appliance/consenting.py",  # the evidence of a spoken consent
    "appliance/doors/http/recordings.py",  # one recording
    "appliance/jobs/slicing.py",  # a long file, and every clip that is cut from it
}
INTO_TRAINING = {
    "appliance/assembly.py": "require_clip",  # a reference clip beside imported weights
    "appliance/jobs/cloning.py": "require",  # recordings, also by way of a dataset
}


def calls(path: Path) -> list[tuple[str, str]]:
    """Receiver and name of every method call in a file: ("self._rooms.recordings", "add")."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(one.value), one.attr) for one in found if isinstance(one, ast.Attribute)]


def sources() -> dict[str, list[tuple[str, str]]]:
    files = [path for folder in ("appliance", "plugins") for path in (ROOT / folder).rglob("*.py")]
    return {str(path.relative_to(ROOT)): calls(path) for path in files}


def test_recordings_are_filed_by_the_gate_alone():
    code = sources()
    filing = {
        name for name, called in code.items() for receiver, method in called
        if method == "add" and receiver.rpartition(".")[2].lstrip("_") == "recordings"
    }  # fmt: skip
    assert filing == {"appliance/voices/gate.py"}, "file recordings by `VoiceGate.admit`"
    admitting = {name for name, called in code.items() if any(method == "admit" for _, method in called)}
    admitting = {name for name in admitting if any("gate" in receiver for receiver, m in code[name] if m == "admit")}
    assert admitting == WAYS_IN, "a new way in: name it here and give it a test"


def test_no_row_of_a_recording_is_written_elsewhere():
    writers = {
        str(path.relative_to(ROOT)) for path in (ROOT / "appliance").rglob("*.py")
        if 'insert_row(db, "recordings"' in (text := path.read_text()) or "INSERT INTO recordings" in text
    }  # fmt: skip
    assert writers == {"appliance/voices/recordings.py"}


def test_whatever_is_trained_on_is_compared_again():
    code = sources()
    for name, method in INTO_TRAINING.items():
        assert any(called == method and "gate" in receiver for receiver, called in code[name]), name
    makers = {name for name, called in code.items() if ("self._rooms.registry", "add_version") in called}
    assert makers <= {"appliance/assembly.py", "appliance/jobs/filing.py"}
