"""The command: landscape train | evaluate | analyze | spectrum | slice | view | study | report | demo | init."""

import sys

import click
import torch

from landscape.cli.analyze import analyze_command
from landscape.cli.demo import demo_command
from landscape.cli.evaluate import evaluate_command
from landscape.cli.init import init_command
from landscape.cli.report import report_command
from landscape.cli.slice import slice_command
from landscape.cli.spectrum import spectrum_command
from landscape.cli.study import study_command
from landscape.cli.train import train_command
from landscape.cli.view import view_command

TRY: dict[type[Exception], str] = {  # what a kind of error that no message of ours explains is answered with
    ValueError: "",
    ImportError: "",
    OSError: "; make room or choose another folder, then the same command goes on",
    torch.OutOfMemoryError: "; take fewer samples, smaller batches or fewer workers",
    MemoryError: "; take fewer samples, smaller batches or fewer workers",
    RuntimeError: "; raised by the network, its loss or torch: the same call in Python shows where",
}


COMPLETION = 'Names completed by Tab: eval "$(_LANDSCAPE_COMPLETE=bash_source landscape)", or zsh_source.'


@click.group(epilog=COMPLETION, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="landscape-toolkit")
def cli() -> None:
    """The geometry of trained neural networks: Hessian spectra, sharpness, loss landscapes."""


def main() -> None:
    """Run the command; an error that it expects is one line on standard error and exit status 2."""
    try:
        cli(standalone_mode=False, prog_name="landscape")
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo(
            "stopped; the same command goes on from what is kept (analyze and spectrum keep with --resume)", err=True
        )
        sys.exit(130)
    except tuple(TRY) as error:
        attempt = next(attempt for kind, attempt in TRY.items() if isinstance(error, kind))
        said = " ".join(str(error).split()) or type(error).__name__
        click.echo(f"landscape: {said}{attempt}", err=True)
        sys.exit(2)


for command in (
    train_command,
    evaluate_command,
    analyze_command,
    spectrum_command,
    slice_command,
    view_command,
    study_command,
    report_command,
    demo_command,
    init_command,
):
    cli.add_command(command)


if __name__ == "__main__":
    main()
