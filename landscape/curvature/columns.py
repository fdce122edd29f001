"""How many columns of a block a batch serves at once by vmap, from the sizes of a network's layers alone.

One column from a kept graph costs two gradients. Several at once share what the graph holds, and pay where a layer does
so little for a column that calls and copies weigh as much as arithmetic. Measured on two cores, two threads and one,
gradients a column alone and among four: three convolutions of 8, 16 and 16 channels on 8 x 8 digits 1.83 and 1.17 (one
thread 1.72 and 1.21), of 16, 32 and 32 channels 2.02 and 2.01 (2.12 and 2.23), a perceptron of 64 hidden units 1.01 and
.75. On a GPU, where small networks wait for launches, eight; that was not measured. The clock is not asked, so that the
same call gives the same bits.
"""

from collections.abc import Sequence

import torch

SMALL_LAYER = 2**12  # entries of the largest parameter up to which columns at once pay on a CPU
SMALL_NETWORK = 2**20  # parameters up to which a GPU waits for launches


def columns_at_once(sizes: Sequence[int], device: torch.device) -> int:
    """Columns at once for parameters of these sizes; 1 where they do not pay."""
    if device.type == "cuda":
        return 8 if sum(sizes) <= SMALL_NETWORK else 1
    return 4 if max(sizes) <= SMALL_LAYER else 1
