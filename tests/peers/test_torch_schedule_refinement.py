"""The usual schedules against PyTorch's."""

import numpy as np
import pytest

from trref.optimizers.schedule_refinement import usual_schedule

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("linear", lambda o: SCHEDULERS.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=20)),
        ("cosine", lambda o: SCHEDULERS.CosineAnnealingLR(o, T_max=20)),
        ("constant", lambda o: SCHEDULERS.ConstantLR(o, factor=1.0)),
    ],
)
def test_usual_schedules(kind, make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates = make(optimizer), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert np.allclose(usual_schedule(np.arange(20.0), total=20, kind=kind), rates, atol=1e-12, rtol=1e-9)
