"""The console command, run in this process."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from landscape.cli import main


def run(*arguments: object) -> int:
    """The console command in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["landscape", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


def made_in_folder(source: str, name: str, folder: Path, patch: pytest.MonkeyPatch) -> Any:
    """What a function of `mine.py` makes, in whose folder the test runs from now on; torch's random state is kept."""
    (folder / "mine.py").write_text(source)
    patch.chdir(folder)
    scope: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        exec(source, scope)
        return scope[name]()
