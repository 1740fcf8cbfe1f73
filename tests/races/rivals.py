"""Where rivals meet: processes of their own, each with threads, on one real database, let go at the same instant."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from sqlalchemy import URL, make_url

from app import create_app
from database.extension import db
from tests.factories import make_config

PATIENCE_SECONDS = 300
"""How long the rivals may take before the test gives up on them; nothing is measured by it."""

Part = Callable[[Flask, int], Any]


def run_rivals(url: URL, part: Part, *, processes: int, threads: int, rounds: int = 1, **settings: str) -> list[Any]:
    """Run part(app, round) in every thread of every process, all of them together in each round; return all answers."""
    spawn = multiprocessing.get_context("spawn")
    start_line = spawn.Barrier(processes * threads, timeout=PATIENCE_SECONDS)
    answers: multiprocessing.Queue[Any] = spawn.Queue()
    arguments = (url.render_as_string(hide_password=False), part, threads, rounds, settings, start_line, answers)
    rivals = [spawn.Process(target=_rival, args=arguments) for _ in range(processes)]
    for rival in rivals:
        rival.start()
    collected = [answers.get(timeout=PATIENCE_SECONDS) for _ in rivals]
    for rival in rivals:
        rival.join(PATIENCE_SECONDS)
    answers.close()
    answers.join_thread()
    failures = [answer for answer in collected if isinstance(answer, str)]
    assert not failures, failures[0]
    return [answer for group in collected for answer in group]


def _rival(
    url: str, part: Part, threads: int, rounds: int, settings: dict[str, str], start_line: Any, answers: Any
) -> None:
    try:
        app = create_app(make_config(make_url(url), **settings))

        def run(_thread: int) -> list[Any]:
            results = []
            for number in range(rounds):
                start_line.wait()
                results.append(part(app, number))
            return results

        with ThreadPoolExecutor(threads) as pool:
            groups: Sequence[list[Any]] = list(pool.map(run, range(threads)))
        with app.app_context():
            db.engine.dispose()
        answers.put([result for group in groups for result in group])
    except BaseException as error:
        start_line.abort()
        answers.put(f"{type(error).__name__}: {error}")
        raise
