"""The scale of differences: its sign can be read in grey print and by colour-blind readers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb

from brainrdl.plot.style import DIVERGING, MISSING

Values = npt.NDArray[np.float64]

# sRGB to XYZ relative to D65 (IEC 61966-2-1), and severity 1 of Machado et al. (2009), doi:10.1109/TVCG.2009.113
XYZ = np.array([[0.43395, 0.37621, 0.18983], [0.21267, 0.71516, 0.07217], [0.01776, 0.10947, 0.87277]])
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(rgb: Values) -> Values:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb: Values) -> Values:
    """CIELAB (L*, a*, b*)."""
    t = np.clip(linear_rgb, 0, 1) @ XYZ.T
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.fixture(scope="module")
def scale() -> Values:
    return linear(DIVERGING(np.linspace(0, 1, 256))[:, :3])


def test_lightness_rises_with_the_value(scale: Values) -> None:
    lightness = lab(scale)[:, 0]
    assert (np.diff(lightness) > 0).all()
    assert lightness[-1] - lightness[0] > 65


def test_0_is_grey(scale: Values) -> None:
    assert np.hypot(*lab(scale)[[127, 128], 1:].T).max() < 2


def test_steps_are_equal_for_the_eye(scale: Values) -> None:
    steps = np.linalg.norm(np.diff(lab(scale), axis=0), axis=1)
    assert steps.std() / steps.mean() < 0.1


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colour_blind_readers_can_tell_the_signs(scale: Values, deficiency: str) -> None:
    seen = lab(scale @ np.transpose(DEFICIENCIES[deficiency]))
    assert np.linalg.norm(seen[64] - seen[191]) > 50  # of half the scale


def test_no_difference_has_the_colour_of_pairs_without_a_value(scale: Values) -> None:
    missing = lab(linear(np.array([to_rgb(MISSING)])))
    assert np.linalg.norm(lab(scale) - missing, axis=1).min() > 20
