"""Checks of a measurement, and progress messages. A measurement whose check fails has no figure."""

import sys


class CheckFailed(Exception):
    """A check failed, so there is no figure. The message says which one."""


def log(message: str) -> None:
    """Write a progress message to stderr. The table goes to stdout."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def check(condition: bool, message: str) -> None:
    """Raise CheckFailed with this message unless the condition is true."""
    if not condition:
        raise CheckFailed(message)
