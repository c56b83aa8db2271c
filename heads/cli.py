"""`heads ...`: stage 2, from a feature set to a submission."""

from __future__ import annotations

import click

from features.console import Commands
from heads.commands.scores import ensemble, evaluate, report, submit
from heads.commands.sweep import sweep
from heads.commands.train import list_, predict, train
from heads.commands.watch import watch


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Train light temporal heads on cached features, ensemble them, score them, submit them."""


for _command in (train, sweep, predict, list_, evaluate, report, ensemble, submit, watch):
    main.add_command(_command)
