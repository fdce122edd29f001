"""How many columns of a block a batch serves at once by vmap, from the sizes of a network's layers alone.

One column from a kept graph costs two gradients or a little less. Several at once share what the graph holds, and pay
where a layer does so little for a column that calls and copies weigh as much as arithmetic. Gradients of processor time
on one thread, a column alone and among four: three convolutions of 8, 16 and 16 channels on 8 x 8 digits 1.58 and 1.15,
of 16, 32 and 32 channels 1.81 and 1.50, a ResNet of 7 to 28 channels 1.80 and 1.46. A trace takes 106 gradients of the
second either way, for the copies that a whole block needs do not fit into the cache, and 91 in place of 109 of the
third. On a GPU, where small networks wait for launches, eight; that was not measured. The clock is not asked, so that
the same call gives the same bits.
"""

from collections.abc import Sequence

import torch

SMALL_LAYER = 2**13  # entries of the largest parameter up to which columns at once pay on a CPU
SMALL_NETWORK = 2**20  # parameters up to which a GPU waits for launches


def columns_at_once(sizes: Sequence[int], device: torch.device) -> int:
    """Columns at once for parameters of these sizes; 1 where they do not pay."""
    if device.type == "cuda":
        return 8 if sum(sizes) <= SMALL_NETWORK else 1
    return 4 if max(sizes) <= SMALL_LAYER else 1
