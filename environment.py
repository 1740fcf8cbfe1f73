"""The environment and the file `.env` beside app.py: one reader and one way to read, for every process.

Called by config.py and sandbox/settings.py, which know what the values mean; no other module looks at os.environ. What
other programs take from `.env` in ways of their own, such as Flask's command and honcho, is taken out again.
`python -m environment` makes the file, or completes it.
"""

import os
import stat
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from io import StringIO
from pathlib import Path
from secrets import token_hex
from tempfile import mkstemp

from dotenv import find_dotenv
from dotenv.parser import Binding, parse_stream
from honcho.environ import parse as parse_as_honcho

FILE = Path(__file__).resolve().parent / ".env"
OF_PROCESS = os.environ
STARTED_WITH = Path("/proc/self/environ")
"""Where Linux keeps what a process was started with, whatever became of it since."""

SECRETS = ("BANK_WEBHOOK_SECRETS", "SECRETS_KEYS")
"""What complete() makes at random."""

FLASK_MARK = "FLASK_RUN_FROM_CLI"
"""What Flask's command puts into the environment, just before it reads files."""

HONCHO_MARK = "HONCHO_PROCESS_NAME"
"""What honcho puts into the environment of each of its processes."""

QUOTES = ('""', "''", "``", "“”", "„“", "‘’", "«»")

ENV_FILE_PROBLEM = (
    "flask --env-file (or FLASK_ENV_FILE) reads a file for this one process, and expands what it holds: leave it out;"
    f" settings come from the environment and from {FILE}"
)


def read(file: Path = FILE, environ: MutableMapping[str, str] = OF_PROCESS) -> tuple[dict[str, str], list[str]]:
    """Return the values of the file and of the environment, which wins, and what is wrong with either."""
    bindings, problems = _bindings(file)
    if environ is OF_PROCESS:
        problems += undo_flask(environ)
    passed_over = handed_by_honcho(file, environ)
    # As written: python-dotenv itself would replace ${…} within secrets and passwords.
    values = {line.key: line.value for line in bindings if line.key and line.value is not None}
    own = {name: value for name, value in environ.items() if value.strip() and name not in passed_over}
    return values | own, problems


def problem_with(value: str) -> str | None:
    """Say what a person sees at once in a value, and a program takes for part of it."""
    if not value.isprintable():
        return "holds a line break or another sign that cannot be seen, or is not UTF-8"
    parts = (value, *(part.strip() for part in value.split(",")))
    if any(part[:1] + part[-1:] in QUOTES for part in parts if len(part) > 1):
        return "is in quotation marks: take them off; only in .env they are no part of a value"
    return None


def complete(file: Path = FILE) -> Iterator[str]:
    """Make the file out of `.env.example`, or give one that is there what is new; say what was done.

    Nobody but its owner may read it, before a secret goes in. Ends the process where that cannot be.
    """
    if not file.exists():
        file.touch(0o600)
        file.write_text(file.with_name(".env.example").read_text(encoding="utf-8"), encoding="utf-8")
        yield "Made .env."
    elif os.name == "posix":
        yield from _close(file)
    lines, problems = _bindings(file)
    if problems:
        raise SystemExit("\n".join(problems))
    given = {line.key: line.value for line in lines if line.key}
    fresh = {name: token_hex(32) for name in SECRETS if not given.get(name)}
    if fresh:
        yield f"Put a fresh secret into .env: {', '.join(fresh)}."
    if "ENDPOINTS_ON_LOOPBACK" not in given and given.get("KOPECK_ENV") != "production":
        fresh["ENDPOINTS_ON_LOOPBACK"] = "allow"
        yield "Put into .env: ENDPOINTS_ON_LOOPBACK=allow."
    if fresh:
        _write(file, lines, fresh)


def _close(file: Path) -> Iterator[str]:
    """Take from others the right to read or write the file."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if not mode & 0o077:
        return
    try:
        file.chmod(mode & 0o700)
    except OSError:
        raise SystemExit(
            f"Others may read {file} (mode {mode:04o}), and you cannot change that: no secret goes into it."
        ) from None
    yield f"Others could read .env (mode {mode:04o}), and now only its owner can. If they did, change its secrets."


def _write(file: Path, lines: Sequence[Binding], fresh: Mapping[str, str]) -> None:
    """Put values behind their names, or at the end; the file is the old one or the new one at any moment."""
    places = {line.key: place for place, line in enumerate(lines) if line.key in fresh}
    texts = [line.original.string for line in lines]
    if texts and not texts[-1].endswith("\n"):
        texts[-1] += "\n"
    for name, value in fresh.items():
        before = texts[places[name]] if name in places else ""
        text = f"{before[: len(before) - len(before.lstrip())]}{name}={value}\n"
        if name in places:
            texts[places[name]] = text
        else:
            texts.append(text)
    target = file.resolve()
    found = target.stat()
    # Made for its owner alone.
    descriptor, beside = mkstemp(dir=target.parent, prefix=".env.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        written.writelines(texts)
    if os.name == "posix":
        os.chown(beside, found.st_uid, found.st_gid)
    Path(beside).replace(target)


def undo_flask(environ: MutableMapping[str, str]) -> list[str]:
    """Take out what the running `flask` command has read; return what is wrong with how it was called.

    It reads `.env` and `.flaskenv`, here and in the folders above, and expands them, before it looks for an app.
    """
    if FLASK_MARK not in environ:
        return []
    import click  # noqa: PLC0415 - Flask's alone: a server does without
    from click.core import ParameterSource  # noqa: PLC0415

    command = click.get_current_context(silent=True)
    if command is None:
        return []
    root = command.find_root()
    if getattr(root.obj, "load_dotenv_defaults", False):
        given = started_with(environ)
        # `flask --debug` sets it too; `flask run --debug` may be the command, or one below.
        if any(each.get_parameter_source("debug") is ParameterSource.COMMANDLINE for each in (root, command)):
            given.add("FLASK_DEBUG")
        for name in _names_that_flask_read():
            if name not in given:
                environ.pop(name, None)
        # Those that this process starts, as the reloader of `flask run` does, are not to read them either.
        environ["FLASK_SKIP_DOTENV"] = "1"
    from_file = root.get_parameter_source("env_file") in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return [ENV_FILE_PROBLEM] if from_file else []


def started_with(environ: Mapping[str, str], kept_in: Path = STARTED_WITH) -> set[str]:
    """Return the names of what was in the environment before Flask's command read its files."""
    try:
        entries = kept_in.read_bytes().split(b"\0")
    except OSError:
        # Not Linux. A mapping keeps its order: what Flask has read stands behind its mark.
        names = list(environ)
        return set(names[: names.index(FLASK_MARK)] if FLASK_MARK in names else names)
    return {os.fsdecode(entry.partition(b"=")[0]) for entry in entries}


def handed_by_honcho(file: Path, environ: Mapping[str, str]) -> set[str]:
    """Return the names that have what honcho makes of the file: it cuts values at #, and drops quotation marks."""
    try:
        handed = parse_as_honcho(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()  # honcho could not read it either
    port = handed.pop("PORT", None)
    if not handed or any(environ.get(name) != value for name, value in handed.items()):
        return set()
    # It counts ports upwards, from one of its processes to the next.
    if port is not None and (HONCHO_MARK in environ or environ.get("PORT") == port):
        return {*handed, "PORT"}
    return set(handed)


def _bindings(file: Path) -> tuple[list[Binding], list[str]]:
    """Read a file; a line that cannot be read is a problem, and not passed over as python-dotenv would."""
    try:
        lines = list(parse_stream(StringIO(file.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return [], []
    except (OSError, UnicodeDecodeError):
        return [], [f"{file} cannot be read, or is not UTF-8"]
    wrong = [line.original.line for line in lines if line.error]
    if wrong:
        return [], [f"{file} line {number} cannot be read; is a quotation mark missing?" for number in wrong]
    return lines, []


def _names_that_flask_read() -> set[str]:
    found = [Path(path) for name in (".flaskenv", ".env") if (path := find_dotenv(name, usecwd=True))]
    return {
        line.key
        for path in found
        for line in parse_stream(StringIO(path.read_text(encoding="utf-8", errors="replace")))
        if line.key
    }


if __name__ == "__main__":
    for done in complete():
        print(done)
