"""How much is done at once, and what is given up when memory runs out."""

from dataclasses import dataclass


@dataclass(eq=False)
class Retreat:
    """How much is done at once, and what is given up when memory runs out: kept graphs, columns, rows.

    Attributes:
        chunk: columns of a block at once by vmap.
        micro_batch: rows of a batch at once, None for all.
    """

    chunk: int
    micro_batch: int | None

    def give_way(self, rows: int) -> bool:
        """Half the columns, else half the rows. False where nothing is left to halve."""
        if self.chunk > 1:
            self.chunk //= 2
            return True
        present = min(self.micro_batch or rows, rows)
        self.micro_batch = (present + 1) // 2
        return present > 1
