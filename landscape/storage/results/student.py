"""Standard errors of few samples, so that value ± 1.96 stderr is a 95 % interval whatever their number.

A mean of n samples over its estimated error follows Student's t with n − 1 degrees of freedom, not a Gaussian: the
error is stated larger by t(0.975, n − 1) / 1.96, which is 1.15 for 10 samples and 1.01 for 100.
Source: Student 1908, "The probable error of a mean".
"""

from functools import cache

from torch import Tensor

from landscape.storage.results.spectra import standard_error


def calibrated_error(samples: Tensor) -> Tensor:
    """Standard error of the mean of independent samples over axis 0, widened for their number; NaN for one sample."""
    return standard_error(samples) * widening(samples.shape[0] - 1)


@cache
def widening(freedom: int) -> float:
    """t(0.975, freedom) over the Gaussian's 1.96; NaN without a degree of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(freedom, 0.975) / ndtri(0.975))
