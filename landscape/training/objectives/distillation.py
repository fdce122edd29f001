"""The term that SAF and MESA add: the divergence of the present predictions from earlier ones."""

from torch import Tensor
from torch.nn import functional as F

from landscape.checks import integer_in, not_negative, positive


def divergence(past: Tensor, present: Tensor, tau: float) -> Tensor:
    """tau² KL(softmax(past/tau) ‖ softmax(present/tau)), mean over the batch; logits (B, C)."""
    p, q = (past / tau).log_softmax(1), (present / tau).log_softmax(1)
    return tau**2 * F.kl_div(q, p, log_target=True, reduction="batchmean")


def check_distillation(lmbda: float, tau: float, start: int) -> None:
    """Raise ValueError if a setting that both share is out of range."""
    not_negative("lmbda", lmbda)
    positive("tau", tau)
    integer_in("start", start, 0)
