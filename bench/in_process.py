"""Kopeck in the process of the bench, for what needs no HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask

from app import create_app
from bench.databases import Database
from bench.servers import environment
from config import Config
from database.extension import db


@contextmanager
def application(database: Database) -> Iterator[Flask]:
    """Create an app for a database, and close its connections at the end."""
    app = create_app(Config.from_env(environment(database.url)))
    try:
        yield app
    finally:
        with app.app_context():
            db.engine.dispose()


@contextmanager
def app_context(database: Database) -> Iterator[None]:
    """Push the context of an app for a database."""
    with application(database) as app, app.app_context():
        yield
