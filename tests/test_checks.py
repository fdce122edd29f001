import pytest
import torch

from landscape import checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: checks.integer_in("k", 41, 1, 40), "k must be an integer in [1, 40], got 41"),
        (lambda: checks.integer_in("k", 0, 1, 40), "k must be an integer in [1, 40], got 0"),
        (lambda: checks.integer_in("steps", 0, 1), "steps must be an integer at least 1, got 0"),
        (lambda: checks.integer_in("steps", True, 1), "steps must be an integer at least 1, got True"),
        (lambda: checks.positive("tol", 0.0), "tol must be positive and finite, got 0.0"),
        (lambda: checks.positive("tol", -1.0), "tol must be positive and finite, got -1.0"),
        (lambda: checks.positive("tol", NAN), "tol must be positive and finite, got nan"),
        (lambda: checks.positive("tol", INF), "tol must be positive and finite, got inf"),
        (lambda: checks.not_negative("rho", -1e-9), "rho must be finite and at least 0, got -1e-09"),
        (lambda: checks.not_negative("rho", NAN), "rho must be finite and at least 0, got nan"),
        (lambda: checks.norm_order("p", 0.5), "p must be in [1, inf], got 0.5"),
        (lambda: checks.norm_order("p", NAN), "p must be in [1, inf], got nan"),
        (lambda: checks.one_of("which", "SM", ("LM", "LA")), "which must be one of 'LM' | 'LA', got 'SM'"),
        (
            lambda: checks.vector_like("w", torch.zeros(3), torch.zeros(2)),
            "w must be (2,) float32 on cpu, got (3,) float32 on cpu",
        ),
        (
            lambda: checks.vector_like("w", torch.zeros(2).double(), torch.zeros(2)),
            "w must be (2,) float32 on cpu, got (2,) float64 on cpu",
        ),
    ],
)
def test_one_line_with_what_was_expected_and_what_came(call, message):
    with pytest.raises(ValueError, match="must be") as error:
        call()
    assert str(error.value) == message


def test_what_is_in_range_passes():
    checks.integer_in("k", 1, 1, 1)
    checks.integer_in("k", 10**9, 1)
    checks.positive("tol", 1e-300)
    checks.not_negative("rho", 0.0)
    checks.norm_order("p", 1)
    checks.norm_order("p", INF)
    checks.one_of("which", None, ("LM", None))
    checks.vector_like("w", torch.ones(2), torch.zeros(2))
    checks.require(True, "never")


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("one\ntwo"), "one"), (RuntimeError(), "RuntimeError"), (KeyError("name"), "'name'")],
)
def test_what_an_error_says_first(error, line):
    assert checks.first_line(error) == line
