"""A Kopeck of a test's own in a folder, with a `.env` beside its app.py, as a company would install it."""

import os
import subprocess
import sys
from pathlib import Path

from config import ROOT

BIN = Path(sys.executable).parent
SECONDS = 90

REPORT = """
import hashlib
import os

from flask import Flask

import config
from sandbox import settings

read = config.load()
whole = (
    read,
    sorted(read.bank_secrets.items()),
    read.secrets_keys,
    read.database_url.render_as_string(hide_password=False),
    read.outbound_proxy_url,
    read.broker_url,
)
parts = (settings.load(), settings.load().bank_secret, settings.load().webhook_secret)
digest = hashlib.sha256(repr((whole, parts)).encode()).hexdigest()
print(f"DIGEST {digest} {os.environ.get('PGPASSWORD', 'none')}", flush=True)
app = Flask(__name__)
if read.broker_url:
    from worker.tasks import celery
"""
"""A module that every kind of process can load, and that says in one line what it has read."""


class Installed:
    """The code of this repository in a folder of its own: modules copied, packages linked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for path in ROOT.iterdir():
            if path.suffix == ".py" or path.name in ("Procfile", "Makefile", ".env.example"):
                (folder / path.name).write_bytes(path.read_bytes())
            elif (path / "__init__.py").exists() or path.name == "migrations":
                (folder / path.name).symlink_to(path)
        (folder / "report.py").write_text(REPORT)

    def write(self, text: str | bytes, name: str = ".env") -> None:
        (self.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    def start(self, *command: str, cwd: Path | None = None, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=cwd or self.folder,
            env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": "/home/of-a-test", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, cwd: Path | None = None, **environ: str) -> str:
        output, _ = self.start(*command, cwd=cwd, **environ).communicate(timeout=SECONDS)
        return output
