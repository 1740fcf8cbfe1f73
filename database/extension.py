"""Flask-SQLAlchemy: gives each app its engine, and each request, command or job its session.

Used by app.py, migrations/env.py and the tests. Everybody else asks database.session, which knows no Flask.
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import URL

from database import engine, files, session
from database.columns import Base

db = SQLAlchemy(model_class=Base)
session.use(db)


def init_app(app: Flask, url: URL) -> None:
    """Attach the database to the app; nothing connects before the first statement."""
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine.engine_options(url)
    files.make_file(url)
    db.init_app(app)
    with app.app_context():
        engine.prepare(db.engine)
