"""m-sharpness: each part of the batch has its own e, and the step goes along the parts' means.

g = Σ uᵢ gᵢ / Σ uᵢ and g_adv = Σ uᵢ ∇Lᵢ(w + eᵢ) / Σ uᵢ, eᵢ the rule's perturbation from gᵢ = ∇Lᵢ(w) alone, uᵢ samples in
part i. Parts are subsets of one process's batch, passed one after the other, or the batches of the ranks.
Source: Foret et al. 2021, arXiv:2010.01412, section 3.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from landscape.processes import ProcessGroup, added
from landscape.training.sharpness_aware.gradients import finite
from landscape.training.sharpness_aware.passes import Passes
from landscape.training.sharpness_aware.perturbation import AfterFirstPass, Perturbation
from landscape.vectors import Vector


@dataclass(frozen=True)
class MSharpnessPasses:
    """The parts of one step; for the skeleton the same as `Passes`.

    Attributes:
        passes: one for each of this process's parts.
        sizes: samples in each.
        group: the processes whose parts are joined; None for this one alone.
    """

    passes: Sequence[Passes]
    sizes: Sequence[float]
    group: ProcessGroup | None

    def explore(self, perturbation: Perturbation) -> tuple[AfterFirstPass, Vector]:
        """The means of g and of g_adv over the parts. One part that is not finite spoils them, on all ranks.

        Each part's e follows from the rule's state before the step. The next state is that after the mean g, so that
        counts advance by one and averages by the whole batch, and is the same on all ranks.
        """
        states = []

        def found(passes: Passes) -> Vector:
            after, g_adv = passes.explore(perturbation, keep=True)
            states.append(after.state)
            return torch.cat([after.gradient(g_adv), g_adv, g_adv.new_full((1,), not after.plain)])

        mean = self._mean(found)
        g, g_adv = mean[:-1].chunk(2)
        after = AfterFirstPass(g, states[0], moved=finite(g), plain=not mean[-1].any())
        if after.state is None:
            return after, g_adv
        return replace(after, state=perturbation.perturb(g, self.at)[1]), g_adv

    def at(self, e: Vector) -> Vector:
        """The mean gradient at w + e, (P,), the same e for all parts."""
        return self._mean(lambda passes: passes.at(e))

    def _mean(self, vector_of: Callable[[Passes], Vector]) -> Vector:
        size = float(sum(self.sizes))
        shares = [own / size for own in self.sizes]
        mean = shares[0] * vector_of(self.passes[0])
        for passes, share in zip(self.passes[1:], shares[1:], strict=True):
            mean.add_(vector_of(passes), alpha=share)
        if self.group is None:
            return mean
        sums = added(torch.cat([size * mean, mean.new_full((1,), size)]), self.group)
        return sums[:-1] / sums[-1]
