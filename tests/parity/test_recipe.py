"""The weight recipe itself, by the check values of the golden README."""

from __future__ import annotations

import numpy as np
from parity_recipe import uniform, weights


def test_hash() -> None:
    np.testing.assert_array_equal(
        uniform("a", 4, "s"), np.array([0.6467835, 0.18525988, 0.9734105, 0.9840806], np.float32)
    )


def test_scaled_matrix() -> None:
    found = weights("enc_p.proj.weight", (4, 3, 1), "s").ravel()[:3]
    np.testing.assert_allclose(found / 0.25, [-0.4112277, -0.0920825, -0.33882976], rtol=1e-6)
