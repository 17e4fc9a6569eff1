"""The weight recipe itself, by the check values of the golden README."""

from __future__ import annotations

import numpy as np
from parity_recipe import SALTS, golden, salts_of_readme, uniform, weights


def test_hash() -> None:
    np.testing.assert_array_equal(
        uniform("a", 4, "s"), np.array([0.6467835, 0.18525988, 0.9734105, 0.9840806], np.float32)
    )


def test_scaled_matrix() -> None:
    found = weights("enc_p.proj.weight", (4, 3, 1), "s").ravel()[:3]
    np.testing.assert_allclose(found / 0.25, [-0.4112277, -0.0920825, -0.33882976], rtol=1e-6)


def test_the_readme_names_every_salt() -> None:
    assert salts_of_readme(golden("README.md").read_text("utf-8")).keys() == SALTS.keys()


def test_salts_of_another_folder() -> None:
    text = "s1 tiny `x-1`; s1 full `x-2`; s2 `x-3/<version>` with version v2; ERes2NetV2 `x-4/sv`"
    found = salts_of_readme(text)
    assert (found["s1_full"], found["s2_v2Pro"], found["sv"]) == ("x-2", "x-3/v2Pro", "x-4/sv")
    assert "bert" not in found
