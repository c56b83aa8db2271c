"""`extract ...`: stage 1, from videos to a feature set."""

from __future__ import annotations

import click

from extract.commands.backbones import backbones, weights
from extract.commands.plan import plan
from extract.commands.run import run
from extract.commands.show import show
from extract.commands.status import status
from features.console import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="epic-heads")
def main() -> None:
    """Run a frozen backbone once over every annotated segment, and keep its features.

    \b
    The usual order:
      extract backbones             choose a backbone
      extract weights BACKBONE      fetch its weights
      extract show ...              see the regions that --regions would take
      extract plan ...              estimate what the extraction costs
      extract run ...               extract
      extract status FOLDER ...     see how far it is
    """


for _command in (run, status, backbones, weights, plan, show):
    main.add_command(_command)
