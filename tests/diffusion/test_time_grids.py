"""Theorems of time grids: published indices, all numbers of steps, the line through the roots."""

import numpy as np
import pytest

from trref.diffusion.time_grids import sampling_levels, zero_terminal_snr
from trref.problems.mixtures import ddpm_schedule

LEVELS = ddpm_schedule()
SPACINGS = ("leading", "trailing", "linspace")


def _index(steps, spacing, offset=0, levels=LEVELS):
    return sampling_levels(levels, steps=steps, spacing=spacing, offset=offset).indices.tolist()


def test_ten_of_a_thousand():
    assert _index(10, "leading", 1) == [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    assert _index(10, "trailing") == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert _index(10, "linspace") == [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [1000, 64])
def test_every_number_of_steps(count, spacing):
    """As many entries as asked for, distinct, falling, and within the schedule."""
    levels = LEVELS[:count]
    for steps in range(2, count + 1):
        index = np.array(_index(steps, spacing, levels=levels))
        assert len(index) == steps and (np.diff(index) < 0).all() and index[-1] >= 0 and index[0] < count
        if spacing != "leading":
            assert index[0] == count - 1


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_steps_are_the_schedule(spacing):
    assert _index(1000, spacing) == list(range(999, -1, -1))


def test_a_floating_range_miscounts():
    """The public code's count, for 62 of the numbers of steps up to 1000; ours is the integer one."""
    wrong = [n for n in range(1, 1001) if len(np.arange(1000, 0, -1000 / n)) != n]
    assert len(wrong) == 62 and wrong[:5] == [61, 103, 121, 122, 201]
    assert all(len(_index(n, "trailing")) == n for n in wrong)


def test_steps_lead_along_the_grid():
    for final, end in (("data", 1.0), ("first", LEVELS[0])):
        levels = sampling_levels(LEVELS, steps=4, final=final)
        assert np.array_equal(levels.alpha_bar, LEVELS[[999, 749, 499, 249]])
        assert levels.next_alpha_bar.tolist() == [*LEVELS[[749, 499, 249]], end]


def test_half_is_rounded_to_even():
    """Ten levels, four steps: 2.5, 5 and 7.5 are 2, 5 and 8, less one; nine gaps in halves: 4.5 is 4."""
    ten = np.linspace(0.9, 0.1, 10)
    assert _index(4, "trailing", levels=ten) == [9, 7, 4, 1]
    assert _index(3, "linspace", levels=ten) == [9, 4, 0]


def test_zero_terminal_snr():
    """The first level and the order stay, the last is 0; twice is once; Stable Diffusion's schedule ends at 0.00466."""
    levels = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert levels[-1] == pytest.approx(0.00466, abs=5e-6)
    ours = zero_terminal_snr(levels)
    assert ours[0] == pytest.approx(levels[0], rel=1e-14) and ours[-1] == 0
    assert (np.diff(ours) < 0).all()
    assert np.allclose(zero_terminal_snr(ours), ours, rtol=1e-12)
    slope = np.diff(np.sqrt(ours)) / np.diff(np.sqrt(levels))
    assert np.allclose(slope, slope[0], rtol=1e-9), "affine in the roots"


def test_a_stride_s_rate_is_the_product_of_its_own():
    levels = sampling_levels(LEVELS, steps=10)
    rates = 1 - levels.alpha_bar / levels.next_alpha_bar
    kept = 1 - LEVELS[899 + 1 : 999 + 1] / LEVELS[899:999]
    assert rates[0] == pytest.approx(1 - np.prod(1 - kept), rel=1e-10)


def test_bad_input():
    with pytest.raises(ValueError, match="steps must not be above"):
        sampling_levels(LEVELS, steps=1001)
    with pytest.raises(ValueError, match="offset must leave all indices below 1000"):
        sampling_levels(LEVELS, steps=1000, spacing="leading", offset=1)
    with pytest.raises(ValueError, match="steps must be at least 2"):
        sampling_levels(LEVELS, steps=1, spacing="linspace")
    with pytest.raises(ValueError, match="alpha_bar must fall"):
        zero_terminal_snr(LEVELS[::-1].copy())
    with pytest.raises(ValueError, match="alpha_bar must hold at least two"):
        zero_terminal_snr(LEVELS[:1])
