"""A SQLite file holds bodies, INNs and secrets: nobody but its owner reads it."""

import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from database.engine import migration_engine
from database.files import make_file
from sandbox.store import Store


@pytest.fixture(autouse=True)
def usual_mask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fill(file: Path) -> None:
    """Write something, and leave the files that SQLite keeps beside it."""
    engine = migration_engine(make_url(f"sqlite:///{file}"))
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (x)"))
        connection.commit()
        assert {mode(file.with_name(file.name + suffix)) for suffix in ("", "-wal", "-shm")} == {0o600}


def test_new_file_and_its_folder_are_the_owners(tmp_path):
    file = tmp_path / "instance" / "kopeck.db"

    make_file(make_url(f"sqlite:///{file}"))

    assert (mode(file.parent), mode(file)) == (0o700, 0o600)
    fill(file)


@pytest.mark.parametrize(
    ("before", "after"),
    [(0o644, 0o600), (0o666, 0o660), (0o640, 0o600), (0o660, 0o660), (0o664, 0o660), (0o600, 0o600)],
)
def test_file_that_others_could_read_is_closed_to_them(tmp_path, before, after):
    files = [tmp_path / f"kopeck.db{suffix}" for suffix in ("", "-wal", "-shm")]
    for file in files:
        file.write_bytes(b"")
        file.chmod(before)
    tmp_path.chmod(0o755)

    make_file(make_url(f"sqlite:///{files[0]}"))

    assert {mode(file) for file in files} == {after}
    assert mode(tmp_path) == 0o755


def test_file_that_cannot_be_made_ends_the_process_with_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SystemExit, match=r"DATABASE_URL names .* cannot be made"):
        make_file(make_url(f"sqlite:///{tmp_path / 'file' / 'kopeck.db'}"))


def test_sandbox_s_file_is_its_owner_s_too(tmp_path):
    old = tmp_path / "old.db"
    old.write_bytes(b"")
    old.chmod(0o644)
    new = tmp_path / "folder" / "new.db"
    for file in (old, new):
        store = Store(file)
        store.prepare()
        with store.reading():
            assert {mode(file.with_name(file.name + suffix)) for suffix in ("", "-wal", "-shm")} == {0o600}

    assert mode(new.parent) == 0o700
