"""Sessions that read: the prompt of s1, and Chinese BERT. Tables are looked up here, layers are the kernel's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernel_session import KernelSession
from .reader import MOST_ROWS, Prompt, Reader

Arrays = Mapping[str, NDArray[Any]]
Table = NDArray[Any]


class _Reading(KernelSession):
    def __init__(self, reader: Reader, tables: Mapping[str, Table], backend: str) -> None:
        super().__init__(reader, backend)
        self._reader = reader
        self._tables = tables

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Execute once. Raises Unavailable("backend_unavailable") for what cannot be read, ("session_closed")."""
        return {name: np.array(values) for name, values in self.lend(feeds).items()}

    def lend(self, feeds: Arrays) -> Arrays:
        with self._turn():
            try:
                return self._read(feeds)
            except (ValueError, KeyError, IndexError, TypeError) as error:
                raise self._refused(f"{type(error).__name__}: {error}") from error

    def _read(self, feeds: Arrays) -> Arrays:
        raise NotImplementedError

    def _embedded(self, ids: NDArray[Any], words: str, places: str) -> NDArray[np.float32]:
        """ids (n,) -> (n, width). Raises IndexError for ids that the tables do not have."""
        if len(ids) and (ids.min() < 0 or len(ids) > len(self._tables[places])):
            raise IndexError(f"{len(ids)} ids, the least is {ids.min()}")
        found: NDArray[np.float32] = self._tables[words][ids] + self._tables[places][: len(ids)]
        return found


class PromptSession(_Reading):
    """s1 reads a prompt, as the graph "prefill" does. Keys and values are half floats in memory of the session."""

    def __init__(self, reader: Reader, tables: Mapping[str, Table], backend: str) -> None:
        super().__init__(reader, tables, backend)
        layers = range(reader.shape.layers)
        self._grown = np.zeros(0, np.float16)
        self._logits = np.zeros(reader.shape.vocabulary, np.float32)
        self.inputs = ("phones", "bert", "tokens", "mask")
        self.outputs = ("logits", *(f"{kind}_{layer}" for layer in layers for kind in ("keys", "values")))

    def _read(self, feeds: Arrays) -> Arrays:
        (phones,), (features,), (tokens,), ((mask,),) = (feeds[name] for name in self.inputs)
        text = self._embedded(phones, "text.embedding", "text.positions")
        audio = self._embedded(tokens, "audio.embedding", "audio.positions")
        x = np.concatenate((text, audio))
        if not 1 <= len(x) <= MOST_ROWS or len(features) != len(phones):
            raise ValueError(f"{len(phones)} phones, {len(features)} rows of features, {len(tokens)} tokens")
        tables = self._room(len(x))
        features, mask = (np.ascontiguousarray(values, np.float32) for values in (features, mask))
        self._reader.read(Prompt(x, features, mask, tables, self._logits))
        found = {"logits": self._logits[None, None]}
        for layer, pair in enumerate(tables):
            found[f"keys_{layer}"], found[f"values_{layer}"] = pair[:1], pair[1:]
        return found

    def _room(self, rows: int) -> NDArray[np.float16]:
        """Memory that has been written before costs no time."""
        shape = self._reader.shape
        sizes = (shape.layers, 2, shape.heads, rows, shape.head_size)
        count = int(np.prod(sizes))
        if len(self._grown) < count:
            self._grown = np.zeros(count, np.float16)
        return self._grown[:count].reshape(sizes)


class BertSession(_Reading):
    """ids (1, n) -> features (1, n, width)."""

    inputs = ("ids",)
    outputs = ("features",)

    def _read(self, feeds: Arrays) -> Arrays:
        (ids,) = feeds["ids"]
        x = self._embedded(ids, "words", "positions")
        if not 1 <= len(x) <= MOST_ROWS:
            raise ValueError(f"{len(x)} ids")
        x -= x.mean(axis=1, keepdims=True)
        x *= 1 / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + self._tables["epsilon"])
        x = x * self._tables["norm.weight"] + self._tables["norm.bias"]
        self._reader.read(Prompt(x))
        return {"features": x[None]}
