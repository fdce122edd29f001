"""What a reader with a keyboard or a screen reader meets on a page, by the standard library's parser."""

import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Elements in their order, each with its attributes, its text and what it lies in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[dict[str, Any]] = []
        self.open: list[dict[str, Any]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "in": list(self.open), "text": "", **{name: value or "" for name, value in attrs}}
        self.all.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1]["tag"] == tag, f"</{tag}> closes <{self.open[-1]['tag']}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def tags(self, *names: str, inside: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """All elements of these names, in one element."""
        return [
            found
            for found in self.all
            if found["tag"] in names and (inside is None or any(inside is x for x in found["in"]))
        ]


def schemes(page: str) -> dict[str, dict[str, str]]:
    """The colours of the light and of the dark scheme, by variable."""
    light, dark, *_ = re.findall(r":root \{([^}]*)\}", page)
    return {name: dict(re.findall(r"--(\w+): (#\w+)", css)) for name, css in (("light", light), ("dark", dark))}


def contrast(one: str, other: str) -> float:
    """Ratio of luminances, by WCAG 2."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
