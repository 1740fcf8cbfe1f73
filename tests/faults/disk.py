"""A small disk, in a mount namespace of its own, that can be filled to the last byte and freed again.

It is a tmpfs: a real file system that says ENOSPC. Nobody outside the namespace sees it, and it is gone with it.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

from config import ROOT

NEEDED = ("unshare", "nsenter", "mount", "env")
HOLD = 'mount -t tmpfs -o size=$1 tmpfs "$2" && echo mounted && cat'
"""Mounts the disk and keeps the namespace until its own input ends, which it does when the test is gone too."""

COPY = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))"


class SmallDisk:
    """A folder on the small disk; `inside` is what a command is put behind to see it."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self.size = f"{megabytes}m"

    def __enter__(self) -> Self:
        ordinary = os.geteuid() != 0
        as_root = ["--map-root-user"] if ordinary else []
        self.holder = subprocess.Popen(
            ["unshare", "--mount", *as_root, "sh", "-c", HOLD, "sh", self.size, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = self.holder.stdout.readline().strip()
        if said != "mounted":
            self.__exit__()
            raise NoDisk(said)
        pid = str(self.holder.pid)
        as_user = ["--user", "--preserve-credentials"] if ordinary else []
        self.inside = ["nsenter", "--target", pid, "--mount", *as_user, "--", "env", f"--chdir={ROOT}"]
        self.filler = Path(f"/proc/{pid}/root{self.folder}") / "filler"
        return self

    def __exit__(self, *_: object) -> None:
        self.holder.communicate()

    def fill(self) -> None:
        """Leave no byte free."""
        with self.filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Give back what fill() took."""
        self.filler.unlink()

    def copy(self, name: str, target: Path) -> None:
        """Copy a database from the disk to where everyone sees it, as it is at one moment."""
        target.unlink(missing_ok=True)
        subprocess.run([*self.inside, sys.executable, "-c", COPY, self.folder / name, target], check=True)


class NoDisk(Exception):
    """This machine does not let us mount one; the message is what it said."""


def why_not() -> str | None:
    """Say what is missing here for a small disk, if anything is."""
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    return f"not here: {', '.join(absent)}" if absent else None
