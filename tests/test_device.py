"""Every public function on another device: on a GPU against the CPU, and everywhere under a canary.

The canary: the default device is "meta", whose tensors hold no numbers, while network and data lie on the CPU. A tensor
that is made without saying where ends up there, and the call fails or gives no numbers.
"""

import warnings

import pytest
import torch
from device_calls import CALLS
from device_place import CPU, Place, numbers

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


# whose random numbers are those of the device, which has others for a seed
DRAWING = {f"rule {name}" for name in ("esam", "ssam_d", "random_perturbation", "entropy_sgd")}


@gpu
@pytest.mark.parametrize("name", [name for name in CALLS if name not in DRAWING])
def test_a_gpu_gives_the_numbers_of_the_cpu(name, expected, tmp_path):
    found = numbers(quietly(name, Place(torch.device("cuda"), tmp_path)))
    torch.testing.assert_close([number.cpu() for number in found], expected(name), rtol=1e-5, atol=1e-7, equal_nan=True)
