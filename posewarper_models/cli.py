"""The command line: ``posewarper COMMAND``."""

from __future__ import annotations

import sys

import typer

from posewarper_models.commands.aggregate import aggregate
from posewarper_models.commands.convert import convert
from posewarper_models.commands.evaluate import evaluate
from posewarper_models.commands.experiment import experiment, report
from posewarper_models.commands.propagate import propagate
from posewarper_models.commands.synth import synth
from posewarper_models.commands.train import train

app = typer.Typer(
    help="PoseWarper: train it, propagate poses through videos, aggregate and evaluate them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (synth, train, propagate, aggregate, evaluate, convert, experiment, report):
    app.command()(command)


def main() -> None:
    """The entry point: what is wrong with the input is said in one line, without a traceback."""
    try:
        app()
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
