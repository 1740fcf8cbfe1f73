"""The database file: versions, restarts, durability."""

from sandbox.store import Store


def test_a_file_of_another_version_is_set_aside(tmp_path):
    store = Store(tmp_path / "s.db")
    store.prepare()
    with store.writing() as connection:
        connection.execute("PRAGMA user_version = 99")
    store.prepare()

    assert len(store.secret()) == 64
    assert len(list(tmp_path.glob("s.db.*"))) >= 1


def test_a_start_keeps_what_is_there(payer, make_app):
    payment_id = payer.create()
    make_app()

    assert payer.invoice(payment_id).status == "pending"


def test_writes_are_durable_and_references_are_kept(payer):
    connection = payer.app.extensions["sandbox"].store.connect()
    pragmas = [
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "foreign_keys")
    ]
    connection.close()

    assert pragmas == ["wal", 2, 1]
