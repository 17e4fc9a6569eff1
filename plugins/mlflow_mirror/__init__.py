"""Plugin: `voiced mlflow-mirror` copies finished trainings into an MLflow store on this machine (extra "mlflow")."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.hookspecs import hookimpl

if TYPE_CHECKING:
    from appliance.hookspecs import RegisterCommand

VOICED_API = 1


def configure(command: argparse.ArgumentParser) -> None:
    """The options beside those that every command has."""
    command.add_argument(
        "--store", default="sqlite:///voiced-mlflow.db", help="an SQLAlchemy address; SQLite by default"
    )


def run(arguments: argparse.Namespace) -> int:
    """The command; MLflow is imported only now."""
    from appliance_plugins.mlflow_mirror.mirror import mirror

    return int(mirror(arguments))


@hookimpl
def register_commands(register: RegisterCommand) -> None:
    register("mlflow-mirror", configure, run)
