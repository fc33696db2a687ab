"""The loss computes the published equations, gradient included."""

import ppo_loss
import ppo_loss_repaired
import pytest

from trref.conformance import verify


@pytest.mark.parametrize("module", [ppo_loss, ppo_loss_repaired])
def test_loss_computes_the_paper(module):
    verdict = verify("ppo.clipped_surrogate", module.loss)
    assert verdict.conforms, str(verdict)
