import pytest
import torch
from cases import make, normal


@pytest.mark.parametrize("data", [iter([]), (pair for pair in []), normal(4, 4), {"a": 1}])
def test_data_that_cannot_be_read_again_is_refused(data):
    with pytest.raises((ValueError, TypeError), match=r"data must be \(inputs, targets\) or an iterable|Iterable"):
        make("mlp").problem(data=data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (normal(4, 4), torch.tensor(1)),
            r"targets must have a length .*, got \(\) int64; batch the samples .*pass weight=",
        ),
        (
            [(normal(4, 4), {"labels": torch.zeros(4)})],
            "targets must have a length .*, got dict; pass weight=",
        ),
        ([(normal(4, 4), (torch.zeros(4), torch.zeros(4)))], r"targets must have a length .*; pass weight="),
    ],
)
def test_targets_without_a_length_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        make("mlp").problem(data=data).loss()
