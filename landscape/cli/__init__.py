"""The console command."""

from landscape.cli.console import cli, main

__all__ = ["cli", "main"]
