"""DIFF2's budget against the accountant of Opacus: the same divergences, and a looser conversion than its own."""

import numpy as np
import pytest

from tests.peers import trainers
from trref.federated.diff2 import epsilon_of, noise_multipliers, rho_of

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("epsilon", [0.3, 1.0, 3.0, 8.0])
def test_means_and_differences_spend_the_budget(epsilon):
    if trainers.absent("opacus"):
        pytest.skip(f"no files of opacus in {trainers.FOLDER}: tools/test.py --peers")
    rdp = trainers.load("opacus.accountants.analysis.rdp")
    rho = rho_of(np.array([epsilon]), delta=1e-5)
    z = noise_multipliers(rho, restarts=20, differences=180, share=0.8)
    orders = np.exp(np.linspace(np.log(1.1), np.log(400), 4000))
    spent = sum(
        rdp.compute_rdp(q=1, noise_multiplier=float(each[0]), steps=steps, orders=orders)
        for each, steps in ((z.mean, 20), (z.difference, 180))
    )
    assert np.allclose(spent, rho * orders, rtol=1e-12, atol=0)
    # by the conversion of Mironov the best of a fine grid is within its step of the closed form
    best = (spent + np.log(1e5) / (orders - 1)).min()
    ours = epsilon_of(rho, delta=1e-5)[0]
    assert ours <= best <= ours * (1 + 1e-5)
    theirs, _ = rdp.get_privacy_spent(orders=orders, rdp=spent, delta=1e-5)
    assert 0.7 * ours < theirs < ours, "that of Opacus (Balle et al.) is tighter"
