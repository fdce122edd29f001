"""The type checker of the tests: beartype with the numeric tower of PEP 484, where an int may stand for a float.

Which item of a list beartype looks at is drawn at random: from a source of its own here, because tests compare Python's
global one before and after a call.
"""

import random
from unittest.mock import patch

with patch("random.getrandbits", random.Random(0).getrandbits):
    from beartype import BeartypeConf, beartype

    check = beartype(conf=BeartypeConf(is_pep484_tower=True))

    @check
    def _keeps_the_source_of_its_first_use(items: list[int]) -> None: ...
