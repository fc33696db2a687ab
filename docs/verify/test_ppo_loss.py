"""The loss computes the published equations, gradient included."""

from ppo_loss import loss

from trref.conformance import assert_conforms, parametrize_with_cases


@parametrize_with_cases("ppo.clipped_surrogate", settings=["default"])
def test_loss_computes_the_paper(case):
    assert_conforms(case, loss)
