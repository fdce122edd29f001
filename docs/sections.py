"""A blank line before Returns, Raises and Source of a docstring, as the reader of the API pages wants it."""

import re

from griffe import Extension


class Sections(Extension):
    """Sees every object before its docstring is read."""

    def on_object(self, *, obj, **_):
        """Set the sections apart."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?<!\n)\n(?=(Args|Returns|Raises|Source):)", "\n\n", obj.docstring.value)
