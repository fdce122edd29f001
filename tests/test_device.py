"""Every public function on another device: on a GPU against the CPU, and everywhere under a canary.

The canary: the default device is "meta", whose tensors hold no numbers, while network and data lie on the CPU. A tensor
that is made without saying where ends up there, and the call fails or gives no numbers.
"""

import warnings

import pytest
import torch
from device_calls import CALLS, CPU, DOUBLE, Place, numbers
from torch import nn
from torch.nn.functional import cross_entropy

import landscape as ls

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a call gives on the CPU, found once."""
    known = {}

    def found(name):
        if name not in known:
            known[name] = numbers(quietly(name, Place(CPU, tmp_path_factory.mktemp("cpu"))))
        return known[name]

    return found


def quietly(name, place):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # what few products do not reach is said
        return CALLS[name](place)


@pytest.mark.parametrize("name", CALLS)
def test_no_tensor_is_made_without_a_device(name, expected, tmp_path):
    place = Place(CPU, tmp_path)
    with torch.device("meta"):
        found = quietly(name, place)
    found = numbers(found)
    assert {number.device for number in found} <= {CPU}
    assert len(found) > 0
    torch.testing.assert_close(found, expected(name), rtol=1e-9, atol=1e-11, equal_nan=True)


@gpu
@pytest.mark.parametrize("name", CALLS)
def test_a_gpu_gives_the_numbers_of_the_cpu(name, expected, tmp_path):
    found = numbers(quietly(name, Place(torch.device("cuda"), tmp_path)))
    torch.testing.assert_close([number.cpu() for number in found], expected(name), rtol=1e-5, atol=1e-7, equal_nan=True)


@gpu
@pytest.mark.parametrize("training", [False, True])
def test_a_product_of_an_lstm_on_a_gpu(training):
    """cuDNN has no second derivative of recurrent networks, and in eval mode not even a first one."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, num_layers=2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    model, x, t = Network().double().train(training), torch.randn(6, 5, 3, **DOUBLE), torch.randint(3, (6,))
    v = torch.randn(sum(p.numel() for p in model.parameters()), **DOUBLE)
    on_cpu = [make(ls.Problem(model, cross_entropy, (x, t))) @ v for make in (ls.hessian, ls.ggn)]
    problem = ls.Problem(model.cuda(), cross_entropy, (x.cuda(), t.cuda()))
    on_gpu = [make(problem) @ v.cuda() for make in (ls.hessian, ls.ggn)]
    torch.testing.assert_close([image.cpu() for image in on_gpu], on_cpu, rtol=1e-9, atol=1e-12)
    assert model.training is training
