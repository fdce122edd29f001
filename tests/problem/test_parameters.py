import oracles
import pytest
import torch
from cases import make
from torch import nn

from landscape.problem import Problem
from landscape.problem.parameters import selected


@pytest.mark.parametrize(
    "parameters", [["2.bias", "0.weight"], lambda name, _: name in ("0.weight", "2.bias")], ids=["names", "predicate"]
)
def test_chosen_parameters_keep_the_order_of_the_model(parameters):
    case = make("mlp")
    problem = case.problem(parameters=parameters)
    assert problem.layout.names == ("0.weight", "2.bias")
    whole = oracles.gradient(case)
    assert oracles.relative(problem.gradient(), torch.cat([whole[:24], whole[48:]])) < 1e-12


def test_a_tied_parameter_counts_once_under_either_name():
    case = make("tied")
    assert case.problem().layout.names == ("0.weight", "1.weight", "1.bias")
    assert case.problem(parameters=["3.weight"]).layout.names == ("0.weight",)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["0.weight", "head"], r"parameters must be names of the model's parameters, got \['head'\]"),
        ([], "must have at least one trainable parameter, got none"),
        (lambda *_: False, "must have at least one trainable parameter, got none"),
    ],
)
def test_a_wrong_choice_is_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        make("mlp").problem(parameters=parameters)


def test_models_without_real_trainable_parameters_are_refused():
    case = make("mlp")
    with pytest.raises(ValueError, match="at least one trainable parameter, got none; set requires_grad_"):
        Problem(case.model.requires_grad_(False), case.criterion, case.batches)
    with pytest.raises(ValueError, match=r"parameters must be real, got complex \['weight'\]"):
        Problem(nn.Linear(2, 2, bias=False, dtype=torch.complex128), case.criterion, case.batches)


def test_tensors_in_place_of_names_are_not_printed_whole():
    model = nn.Linear(2, 2)
    unchecked = getattr(selected, "__wrapped__", selected)  # the tests' type check would come first
    with pytest.raises(ValueError, match=r"names of the model's parameters, got \['Parameter', 'Parameter'\]"):
        unchecked(model, list(model.parameters()))


def test_lazy_parameters_ask_for_a_first_batch():
    with pytest.raises(ValueError, match=r"^parameters must have a shape, got lazy \['0.weight', '0.bias'\]; run"):
        Problem(nn.Sequential(nn.LazyLinear(3)), nn.MSELoss(), [])
