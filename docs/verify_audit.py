#!/usr/bin/env python3
"""Verify an exported audit log of a voiced box, with nothing but Python's standard library.

    python3 verify_audit.py LOG.ndjson [--checkpoint NOTE.txt] [--key KEY]

LOG.ndjson comes from `voiced audit export`: a first line {"checkpoint", "key"}, then one line per entry: {"index",
"entry"} with the entry as it was hashed, or {"index", "leaf"} for entries of other tenants. NOTE.txt is a checkpoint
that was kept elsewhere, KEY the key line noted when the box was set up ("voiced-…+…+…", or a file with it).
Give both: the log's own checkpoint and key only show that the file hangs together.

Exit status: 0 intact, 1 not intact (the first bad index is named where it can be), 2 wrong usage.
Formats: RFC 6962 section 2.1 (tree), C2SP signed-note and tlog-checkpoint, RFC 8032 (Ed25519).
"""

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path

# ------------------------------------------------------------ Ed25519 (RFC 8032, section 5.1), verification only

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def recover_x(y, sign):
    """The x of a point with this y; None when there is none."""
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    if square == 0:
        return None if sign else 0
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return P - x if (x & 1) != sign else x


def add(a, b):
    """Sum of two points in extended coordinates (X, Y, Z, T)."""
    m = (a[1] - a[0]) * (b[1] - b[0]) % P
    n = (a[1] + a[0]) * (b[1] + b[0]) % P
    o, p = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = n - m, p - o, p + o, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point, scalar = add(point, point), scalar >> 1
    return result


def decompress(data):
    if len(data) != 32:
        return None
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    x = recover_x(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE_X = recover_x(BASE_Y, 0)
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def is_signed(public, message, signature):
    """Whether `signature` (64 bytes) over `message` comes from the holder of `public` (32 bytes)."""
    if len(signature) != 64:
        return False
    a, r = decompress(public), decompress(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= ORDER:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = multiply(s, BASE), add(r, multiply(h, a))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# ------------------------------------------------------------ checkpoints


class Bad(Exception):
    """Something is not as it was written."""


def read_key(line):
    """name, public key of a key line (C2SP: name+hint+base64 of 0x01 and the key)."""
    name, hint, encoded = line.strip().split("+", 2)
    raw = base64.b64decode(encoded, validate=True)
    if raw[:1] != b"\x01" or len(raw) != 33:
        raise Bad("the key line is not an Ed25519 key")
    if hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() != hint:
        raise Bad("the key line is damaged: its hint does not belong to the key")
    return name, raw[1:]


def read_note(note, key):
    """Size, root and time of a checkpoint that `key` signed."""
    name, public = key
    body, separator, signatures = (note.replace("\r\n", "\n").strip() + "\n").partition("\n\n")
    body += "\n"
    hint = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]
    for line in signatures.splitlines() if separator else ():
        parts = line.split(" ")
        if len(parts) != 3 or parts[:2] != ["—", name]:
            continue
        decoded = base64.b64decode(parts[2])
        if decoded[:4] == hint and is_signed(public, body.encode(), decoded[4:]):
            origin, size, root, *more = body.splitlines()
            if origin != f"{name}/audit":
                raise Bad("the checkpoint is of another log")
            fields = dict(one.split(" ", 1) for one in more)
            return int(size), base64.b64decode(root), fields.get("time", "?")
    raise Bad("the checkpoint is not signed by this key")


# ------------------------------------------------------------ the tree


class Tree:
    """A growing Merkle tree: the roots of its full subtrees, largest first."""

    def __init__(self):
        self.size, self.peaks = 0, []

    def add(self, leaf):
        size = self.size
        while size & 1:
            leaf, size = hashlib.sha256(b"\x01" + self.peaks.pop() + leaf).digest(), size >> 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self):
        if not self.peaks:
            return hashlib.sha256().digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = hashlib.sha256(b"\x01" + peak + root).digest()
        return root


def leaf_of(line, index):
    if line.get("index") != index:
        raise Bad(f"first bad index {index}: missing (the next entry is {line.get('index')})")
    if "entry" in line:
        return hashlib.sha256(b"\x00" + line["entry"].encode()).digest()
    return bytes.fromhex(line["leaf"])


def start_of(head, key):
    """The tree at the tombstone, where retention removed older entries; else an empty one."""
    tree = Tree()
    if head.get("tombstone"):
        tree.size, root, _ = read_note(head["tombstone"], key)
        tree.peaks = [bytes.fromhex(peak) for peak in head["peaks"]]
        if len(tree.peaks) != tree.size.bit_count() or tree.root() != root:
            raise Bad("the tombstone does not belong to these entries")
    return tree


def verify(lines, key_line, kept_note):
    """One sentence about the log; raises Bad."""
    head = json.loads(next(lines))
    key = read_key(key_line or head["key"])
    wanted = {
        size: root for size, root, _ in (read_note(note, key) for note in (head["checkpoint"], kept_note) if note)
    }
    tree, good = start_of(head, key), 0
    for size in sorted(wanted):
        if size < tree.size:
            raise Bad(f"the checkpoint is older ({size}) than what retention left (from {tree.size} on)")
        while tree.size < size:
            text = next(lines, None)
            if text is None:
                raise Bad(f"first bad index {tree.size}: truncated, the checkpoint signs for {size} entries")
            try:
                tree.add(leaf_of(json.loads(text), tree.size))
            except (ValueError, KeyError):
                raise Bad(f"first bad index {tree.size}: unreadable") from None
        if tree.root() != wanted[size]:
            raise Bad(f"first bad index between {good} and {size - 1}: entries are not what was signed for")
        good = size
    return f"intact: {good} entries, {len(wanted)} checkpoints, key {key[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--key")
    given = parser.parse_args()
    key = Path(given.key).read_text() if given.key and Path(given.key).is_file() else given.key
    note = given.checkpoint.read_text(encoding="utf-8") if given.checkpoint else ""
    try:
        with given.log.open(encoding="utf-8") as lines:
            print(verify(lines, key, note))
    except (Bad, ValueError, KeyError, StopIteration) as error:
        print(f"NOT INTACT: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
