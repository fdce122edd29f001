"""Run one task in this process and print the most memory held, in MB: `peak.py TASK CONFIG`, CONFIG as JSON.

On a GPU torch's own count. On a CPU the largest resident set that the kernel noted for this program; the caller takes
off that of the task "nothing", which has the imports, the network and the data.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import torch
from contenders import QUESTIONS
from measure import own_peak
from products import PRODUCTS
from setting import Config, trained


def main(task: str, config: Config) -> None:
    """Run "question:contender", "product:kind" or "nothing" and print megabytes."""
    torch.set_num_threads(config.threads)
    kind, _, name = task.partition(":")
    setting = trained(config, copies=2 if name.endswith("twice the data") else 1)
    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if kind in QUESTIONS:
        QUESTIONS[kind][name](setting, 0)
    elif kind == "product":
        PRODUCTS[name.removesuffix(", twice the data")](setting)()
    click.echo(f"{own_peak(config.device)}")


def config_from(text: str) -> Config:
    """The config that `json.dumps(asdict(config), default=str)` wrote."""
    values: dict[str, Any] = json.loads(text)
    for item in fields(Config):
        if item.type is Path:
            values[item.name] = Path(values[item.name])
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Config(**values)


if __name__ == "__main__":
    main(sys.argv[1], config_from(sys.argv[2]))
