"""Kopeck within the bench's own process, for what is measured or made ready without HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from app import create_app
from bench.databases import Database
from bench.servers import environment
from config import Config
from database.extension import db


@contextmanager
def opened(database: Database) -> Iterator[Flask]:
    """Make an app on a database, and let go of its connections at the end."""
    app = create_app(Config.from_env(environment(database.url)))
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()


@contextmanager
def inside(database: Database) -> Iterator[None]:
    """Be inside of an app on a database."""
    with opened(database) as app, app.app_context():
        yield
