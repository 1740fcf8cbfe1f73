"""What makes a figure a figure: a measurement either holds its checks or raises Untrue, and is then not shown."""

import sys


class Untrue(Exception):
    """A check failed, so there is no figure; the message says which."""


def say(words: str) -> None:
    """Tell whoever waits what is being done, on stderr: stdout is for the table."""
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def hold(claim: bool, words: str) -> None:
    """Raise Untrue with these words unless the claim is true."""
    if not claim:
        raise Untrue(words)
