"""On a CUDA device every model says what it says on a CPU."""

from __future__ import annotations

import pytest
import torch

from gateline.batch import PaddedBatch
from tests.contracts.test_models import every_model, said
from tests.model_example import Batch, Example


@pytest.mark.gpu
@every_model
def test_a_model_says_the_same_on_a_cuda_device(example: Example) -> None:
    if example.draws:
        pytest.skip("draws other numbers there")
    torch.manual_seed(0)
    model, batch = example.build().eval(), example.batch(torch.Generator().manual_seed(0))
    on_cpu = said(example, model, batch)
    model.cuda()
    on_device = said(example, model, moved(example, batch))

    torch.testing.assert_close(on_device.cpu(), on_cpu, rtol=1e-3, atol=1e-3)


def moved(example: Example, batch: Batch) -> Batch:
    """The batch on the device, rows of different lengths as a data set hands them to the loop."""
    on_device = {name: tensor.cuda() for name, tensor in batch.items()}
    for name in example.timed:
        padded = PaddedBatch(batch[name], batch["lengths"]).to(torch.device("cuda"))
        on_device |= {name: padded.values, "lengths": padded.lengths}
    return on_device
