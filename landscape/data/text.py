"""Characters for a small causal language model: inputs are windows of the text, targets the same one further on."""

from dataclasses import replace
from pathlib import Path
from random import Random

import torch

from landscape.checks import integer_in, require
from landscape.data.files import existing, intact, reading
from landscape.data.images import Images

WORDS = {
    "who": ("the cat", "a dog", "my aunt", "the old captain", "every bird", "nobody"),
    "does": ("sees", "follows", "paints", "forgets", "calls", "likes"),
    "what": ("the river", "a red door", "its own shadow", "the harbour", "three stones", "the moon"),
}


def text(
    path: str | Path, label_noise: float = 0.0, seed: int = 0, length: int = 64, test_share: float = 0.1
) -> Images:
    """Windows of a text file that do not overlap; the test set is its end.

    Args:
        path: of a file in UTF-8.
        label_noise: must be 0.
        seed: changes nothing.
        length: characters of a window.
        test_share: of the windows, in (0, 1).
    Returns:
        Inputs and targets (N, length), int64; a class is a character's place among the sorted ones of the whole text.
    Raises:
        ValueError: if the file is missing, no text, or too short.
    """
    path = existing(Path(path), "a text file")
    with reading(path, "text in UTF-8"):
        content = path.read_bytes().decode("utf-8")
    windows = (len(content) - 1) // length if length > 0 else 2
    intact(path, windows >= 2, f"at least {2 * length + 1} characters long", f"{len(content)} characters")
    return tokens(content, length, test_share).with_label_noise(label_noise, seed)


def made_text(
    label_noise: float = 0.0, seed: int = 0, sentences: int = 2000, length: int = 32, test_share: float = 0.1
) -> Images:
    """Windows of sentences put together at random, the same ones at each call.

    A sentence has three parts, each one of six: 3 log₂ 6 = 7.75 bits, whatever its length.

    Args:
        label_noise: must be 0.
        seed: changes nothing.
        sentences: how many.
        length: characters of a window.
        test_share: of the windows, in (0, 1).
    Raises:
        ValueError: if an argument is out of range.
    """
    integer_in("sentences", sentences, 10)
    draw = Random(0)
    made = (" ".join(draw.choice(part) for part in WORDS.values()) for _ in range(sentences))
    return tokens("\n".join(made), length, test_share).with_label_noise(label_noise, seed)


def tokens(content: str, length: int, test_share: float) -> Images:
    """The windows of a text."""
    integer_in("length", length, 1)
    require(0 < test_share < 1, f"test_share must be in (0, 1), got {test_share!r}")
    characters = {character: place for place, character in enumerate(sorted(set(content)))}
    places = torch.tensor([characters[character] for character in content], device="cpu")
    count = (len(content) - 1) // length
    held_out = min(max(round(test_share * count), 1), count - 1)
    require(held_out >= 1, f"length must leave two windows of {len(content)} characters, got {length}")
    inputs, targets = (part[: count * length].view(count, length) for part in (places, places[1:]))
    train, test = slice(None, count - held_out), slice(count - held_out, None)
    made = Images(inputs[train], targets[train], inputs[test], targets[test], targets[train], len(characters))
    return replace(made, class_names=tuple(characters))
