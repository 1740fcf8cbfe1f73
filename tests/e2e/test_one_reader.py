"""`.env` is read by one reader: every kind of process comes to the same settings, whatever the file holds."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.e2e.installed import SECONDS, Installed
from tests.factories import SECRET, SECRETS_KEY

HEX = "0f1e2d3c4b5a6978"
SECRETS = f"BANK_WEBHOOK_SECRETS={SECRET}\nSECRETS_KEYS={SECRETS_KEY}\n"

FILES = {
    "expansions": f"BANK_WEBHOOK_SECRETS={HEX}${{HOME}}{HEX}$x,$HOME{HEX}{HEX}\nSECRETS_KEYS={HEX}${{HOME:-a}}{HEX}\n",
    "expansion of its own names": f"PGPASSWORD=p\nBANK_WEBHOOK_SECRETS={HEX}${{PGPASSWORD}}{HEX}\n"
    f"SECRETS_KEYS={HEX}{HEX}\n",
    "hash signs": f"BANK_WEBHOOK_SECRETS={HEX}#{HEX} # the bank's\nSECRETS_KEYS={HEX}#{HEX}#\n",
    "quotation marks": f'BANK_WEBHOOK_SECRETS=\'{HEX} # {HEX}\'\nSECRETS_KEYS="{HEX}\\"it\'s{HEX}"\nPORT="8123"\n',
    "quotation marks within": f'BANK_WEBHOOK_SECRETS={HEX}"q"{HEX}\nSECRETS_KEYS={HEX}`x`{HEX}\n',
    "backslashes": f"BANK_WEBHOOK_SECRETS={HEX}\\t\\n\\\\{HEX}\nSECRETS_KEYS='{HEX}\\n{HEX}'\n",
    "spaces": f" BANK_WEBHOOK_SECRETS = {HEX} two words {HEX}  \nSECRETS_KEYS\t=\t{HEX}{HEX}\n",
    "export": f"export BANK_WEBHOOK_SECRETS={HEX}{HEX}\nexport SECRETS_KEYS='{HEX}$y{HEX}'\nexport PORT=8124\n",
    "bom and crlf": f"\ufeffBANK_WEBHOOK_SECRETS={HEX}{HEX}\r\nSECRETS_KEYS={HEX}x{HEX}\r\nPORT=8125\r\n",
    "unicode": f"BANK_WEBHOOK_SECRETS={HEX}ключ-№1{HEX}\nSECRETS_KEYS={HEX}é{HEX}\nSANDBOX_CURRENCY=UAH ₴\n",
    "repeated and empty names": f"{SECRETS}PORT=8126\nPORT=8127\nUNKNOWN_INN=hold\nUNKNOWN_INN=\nHOST=\n",
    "database and proxy": f"{SECRETS}DATABASE_URL=postgresql://k:p%24x${{HOME}}@h/k\n"
    "OUTBOUND_PROXY_URL=http://u:$p%23@proxy.example:3128\nSANDBOX_BANK_SECRET=$x${HOME}\n",
    "other programs' names": f"{SECRETS}PGPASSWORD=p\nFLASK_DEBUG=1\nGUNICORN_CMD_ARGS=--threads 4\n",
}

COMMANDS = {
    "python": ["python", "report.py"],
    "flask": ["flask", "--app", "report", "routes"],
    "python -m flask": ["python", "-m", "flask", "--app", "report", "routes"],
    "gunicorn": ["gunicorn", "--check-config", "report:app"],
    "honcho run": ["honcho", "run", "flask", "--app", "report", "routes"],
}
PROCFILE = "web: gunicorn --check-config report:app\nworker: flask --app report routes\n"


def digests(output: str) -> list[str]:
    return re.findall(r"DIGEST (\w+) \w+", output)


def all_digests(installed: Installed, **environ: str) -> set[str]:
    """Return what processes of every kind say, each once."""
    started = {name: installed.start(*command, **environ) for name, command in COMMANDS.items()}
    outputs = {name: process.communicate(timeout=SECONDS)[0] for name, process in started.items()}
    assert [name for name, output in outputs.items() if len(digests(output)) != 1] == [], outputs
    return {digest for output in outputs.values() for digest in digests(output)}


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path / "above" / "kopeck")


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_every_process_reads_the_file_alike(installed, content):
    installed.write(content)

    assert len(all_digests(installed)) == 1


@pytest.mark.parametrize("name", ["expansions", "hash signs", "quotation marks within", "backslashes"])
def test_processes_of_honcho_read_the_file_alike(installed, name):
    installed.write(f"{FILES[name]}PORT=8130\n")
    installed.write(PROCFILE, "Procfile")

    under_honcho = digests(installed.run("honcho", "start"))

    assert under_honcho  # the process that ends first ends the other
    assert set(under_honcho) == set(digests(installed.run("python", "report.py")))


def test_celery_reads_the_file_alike(installed):
    installed.write(FILES["hash signs"] + "CELERY_BROKER_URL=redis://:p$x${HOME}@127.0.0.1:6379/9\n")
    output = installed.run("celery", "-A", "report", "report", CELERY_BROKER_READ_URL="redis://stranger.invalid/1")

    assert digests(output) == digests(installed.run("flask", "--app", "report", "routes"))


STRANGER = (
    "BANK_WEBHOOK_SECRETS=a-secret-of-somebody-else-0123456789abcdef\nSECRETS_KEYS=b-secret-of-somebody-else-0123456789\n"
    "DATABASE_URL=sqlite:////tmp/of-somebody-else.db\nPORT=9999\nUNKNOWN_INN=hold\nPGPASSWORD=else\nFLASK_DEBUG=1\n"
)
EXPORTED = {"BANK_WEBHOOK_SECRETS": SECRET, "SECRETS_KEYS": SECRETS_KEY}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (".env", "above"),
        (".env", "elsewhere"),
        (".flaskenv", "here"),
        (".flaskenv", "above"),
        (".flaskenv", "elsewhere"),
    ],
)
def test_files_of_strangers_are_not_read(installed, tmp_path, name, place):
    alone = digests(installed.run("python", "report.py", **EXPORTED))
    folder = {"above": installed.folder.parent, "here": installed.folder, "elsewhere": tmp_path / "elsewhere"}[place]
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(STRANGER)
    cwd = folder if place == "elsewhere" else installed.folder
    app = str(installed.folder / "report.py")

    output = installed.run("flask", "--app", app, "routes", cwd=cwd, **EXPORTED)

    assert digests(output) == alone
    assert "of-somebody-else" not in output
    assert re.findall(r"DIGEST \w+ (\w+)", output) == ["none"]


def test_what_was_exported_stays_though_a_strangers_file_says_the_same(installed):
    (installed.folder.parent / ".env").write_text(STRANGER)
    exported = EXPORTED | {"PORT": "9999", "UNKNOWN_INN": "hold", "PGPASSWORD": "else"}

    assert len(all_digests(installed, **exported)) == 1
    output = installed.run("flask", "--app", "report", "routes", **exported)
    assert re.findall(r"DIGEST \w+ (\w+)", output) == ["else"]


def test_processes_that_flask_starts_read_alike(installed):
    (installed.folder.parent / ".env").write_text(STRANGER)
    alone = digests(installed.run("python", "report.py", **EXPORTED))
    server = installed.start("flask", "--app", "report", "--debug", "run", "--port", "0", **EXPORTED)

    last = threading.Timer(SECONDS, os.killpg, (server.pid, signal.SIGKILL))
    last.start()
    said: list[str] = []
    for line in server.stdout:
        said += digests(line)
        if len(said) == 2:  # the process itself, and the one that its reloader starts
            break
    last.cancel()
    os.killpg(server.pid, signal.SIGTERM)
    server.communicate(timeout=SECONDS)

    assert said == alone * 2


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_file_for_flask_alone_is_refused(installed, how):
    installed.write(SECRETS)
    installed.write("PORT=8200\n", "other.env")
    options, environ = (["--env-file", "other.env"], {}) if how == "option" else ([], {"FLASK_ENV_FILE": "other.env"})

    output = installed.run("flask", *options, "orgs", "list", **environ)

    assert "  - flask --env-file (or FLASK_ENV_FILE)" in output
    assert "Traceback" not in output


def test_signature_of_the_shell_holds_at_the_server(installed):
    """As it was found: two secrets, and 401 for the bank."""
    installed.write(f"{FILES['expansions']}DATABASE_URL=sqlite:///{installed.folder}/k.db\nPORT=0\n")
    signed = [installed.run("flask", "bank", "curl", "--operation-id", HEX[:8], PORT="8000") for _ in range(2)]
    unexpanded = installed.run("python", "-c", SIGN_AS_WRITTEN, PORT="8000")

    assert signed[0] == signed[1]
    assert unexpanded.strip() in signed[0]


SIGN_AS_WRITTEN = """
import re
import cli.bank, signing
text = open(".env").read()
secret = re.search("BANK_WEBHOOK_SECRETS=([^,]+),", text)[1]
print(signing.sign(cli.bank._body("1234567890", 145000, "0f1e2d3c", "PAY-328", cli.bank.SAMPLE_DATE), secret))
"""
