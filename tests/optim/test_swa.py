"""Averages of a model's parameters, and batch norm's statistics for them, against NumPy's means."""

import numpy as np
import pytest

import lampion as torch
import lampion.optim
from lampion.optim import swa_utils


class Model(torch.nn.Module):
    """One parameter and one buffer of each kind."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("scale", torch.zeros(2))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        return x * self.weight

    def change(self, value):
        with torch.no_grad():
            self.weight.fill_(value)
            self.scale.fill_(2 * value)
            self.count.fill_(int(value))


VALUES = [1.0, 4.0, 10.0, 3.0]


def averaged(**options):
    """The averages of the weight and of both buffers after the values above."""
    model = Model()
    average = swa_utils.AveragedModel(model, **options)
    for value in VALUES:
        model.change(value)
        average.update_parameters(model)
    assert average.n_averaged.item() == len(VALUES)
    inner = average.module
    return inner.weight[0].item(), inner.scale[0].item(), inner.count.item()


def moving(decay):
    value = VALUES[0]
    for new in VALUES[1:]:
        value = decay * value + (1 - decay) * new
    return value


def test_means():
    assert averaged() == pytest.approx((np.mean(VALUES), 6.0, 3))
    assert averaged(multi_avg_fn=swa_utils.get_swa_multi_avg_fn()) == pytest.approx((4.5, 6.0, 3))


def test_moving_averages():
    for kind in ("avg_fn", "multi_avg_fn"):
        make = getattr(swa_utils, f"get_ema_{kind}")
        assert averaged(**{kind: make(0.7)}) == pytest.approx((moving(0.7), 6.0, 3))


def test_buffers_can_be_averaged():
    weight, scale, count = averaged(use_buffers=True)
    assert (weight, scale) == pytest.approx((4.5, 9.0)) and isinstance(count, int)
    swa = swa_utils.get_swa_multi_avg_fn()
    assert averaged(use_buffers=True, multi_avg_fn=swa)[:2] == pytest.approx((4.5, 9.0))


def test_own_functions():
    assert averaged(avg_fn=lambda average, new, count: new * 0 + count)[0] == 3.0


def test_the_average_is_a_model_of_its_own():
    model = Model()
    average = swa_utils.AveragedModel(model)
    model.change(2.0)
    assert average(torch.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert set(average.state_dict()) == {
        "n_averaged", "module.weight", "module.scale", "module.count"
    }  # fmt: skip
    average.update_parameters(model)
    assert average(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]


def test_checks():
    with pytest.raises(ValueError, match="Invalid decay value 1.5"):
        swa_utils.get_ema_avg_fn(1.5)
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn"):
        swa_utils.AveragedModel(Model(), avg_fn=len, multi_avg_fn=len)
    optimizer = torch.optim.SGD(Model().parameters())
    with pytest.raises(ValueError, match="'cos' or 'linear'"):
        swa_utils.SWALR(optimizer, 0.1, anneal_strategy="x")
    with pytest.raises(ValueError, match="anneal_epochs must be equal or greater than 0"):
        swa_utils.SWALR(optimizer, 0.1, anneal_epochs=-1)


def test_statistics_of_batch_norm():
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3, momentum=0.3), torch.nn.Linear(3, 1))
    batches = [torch.tensor(np.random.randn(8, 3).astype("float32") + i) for i in range(4)]
    model(batches[3])
    model.eval()
    swa_utils.update_bn([(batch, None) for batch in batches], model)
    means = np.mean([batch.numpy().mean(0) for batch in batches], axis=0)
    np.testing.assert_allclose(model[0].running_mean.numpy(), means, rtol=1e-5)
    variances = np.mean([batch.numpy().var(0, ddof=1) for batch in batches], axis=0)
    np.testing.assert_allclose(model[0].running_var.numpy(), variances, rtol=1e-5)
    assert model[0].momentum == 0.3 and not model.training
    swa_utils.update_bn([], torch.nn.Linear(1, 1))  # nothing to do
