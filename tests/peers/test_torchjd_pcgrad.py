"""PCGrad against TorchJD's, in the orders that it draws."""

import numpy as np
import pytest

from tests.peers import trainers
from trref.gradients.pcgrad import surgery

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("seed", range(6))
def test_the_direction(seed):
    torch = pytest.importorskip("torch")
    if trainers.absent("torchjd"):
        pytest.skip(f"no files of torchjd in {trainers.FOLDER}: tools/test.py --peers")
    rng = np.random.default_rng(seed)
    M = int(rng.integers(2, 6))
    G = rng.standard_normal((M, 4))
    torch.manual_seed(seed)
    order = np.stack([torch.randperm(M).numpy() for _ in range(M)])
    torch.manual_seed(seed)
    with trainers.within("torchjd"):
        theirs = trainers.load("torchjd.aggregation._pcgrad").PCGrad()(torch.tensor(G))
    assert np.allclose(surgery(G, order), theirs.numpy(), rtol=1e-11, atol=1e-12)
