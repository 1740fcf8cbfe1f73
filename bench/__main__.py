"""`python -m bench`: measure row after row, print the table, keep results.json and its picture."""

import argparse
import json
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench import picture, report
from bench.databases import Databases
from bench.report import Result
from bench.rows import ALTERNATIVES, CASES, NAMES, Case
from bench.stage import FULL, QUICK, Scale, Stage
from bench.truth import Untrue, say

ROUNDS_MIN = 3


def main() -> int:
    """Run what was asked for; 0 when every row was measured and reached its goal."""
    options = _options()
    scale = _scale(options)
    # Ended from outside, the servers must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = _chosen(options.only) if options.only else CASES
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kopeck-bench-")))
        databases = Databases(folder, stack)
        stage = Stage(scale=scale, folder=folder, databases=databases)
        results = [result for case in chosen for result in measure(stage, case)]
    words = [report.table(results)]
    words += [
        f"{family}: {', '.join(f'{n}={v}' for n, v in shown.items())}" for family, shown in databases.shown.items()
    ]
    if options.quick:
        words.append("A SMOKE RUN (--quick): few seconds, few rows, no figure to quote; results.json is as it was.")
    elif options.only:
        words.append("Only some rows (--only): results.json is as it was.")
    else:
        _keep(results, scale, databases)
    sys.stdout.write("\n\n".join(words) + "\n")
    return 0 if all(result.met for result in results) else 1


def measure(stage: Stage, case: Case) -> list[Result]:
    """Measure one case; when a check fails, or anything else, its rows have no figure and the next case follows."""
    names = ", ".join(goal.name for goal in case.goals)
    results = [Result(goal=goal, scale=stage.scale) for goal in case.goals]
    say(f"{time.strftime('%H:%M:%S')} {names}")
    try:
        with stage.row():
            for shown in case.rounds(stage):
                for result, value in zip(results, shown.values, strict=True):
                    result.values.append(value)
                    result.figures.append(shown.figures)
    except Exception as error:
        if not isinstance(error, Untrue):
            traceback.print_exc()
        say(f"  no figure: {error}")
        for result in results:
            result.failed = (str(error) or type(error).__name__).splitlines()[0]
    return results


def _chosen(names: list[str]) -> tuple[Case, ...]:
    return tuple(case for case in (*CASES, *ALTERNATIVES) if {goal.name for goal in case.goals} & set(names))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"how often each row is measured (default {FULL.rounds})")
    parser.add_argument("--seconds", type=int, help=f"how long each measurement takes (default {FULL.seconds})")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, help=f"single rows: {', '.join(NAMES)}")
    parser.add_argument(
        "--quick", action="store_true", help="see whether it runs, in some three minutes; no real figures"
    )
    options = parser.parse_args()
    if not options.quick and options.rounds is not None and options.rounds < ROUNDS_MIN:
        parser.error(f"a median needs --rounds {ROUNDS_MIN} at least")
    return options


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else FULL
    return replace(scale, rounds=options.rounds or scale.rounds, seconds=options.seconds or scale.seconds)


def _keep(results: list[Result], scale: Scale, databases: Databases) -> None:
    document = report.document(results, scale, databases.shown)
    picture.RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    picture.PICTURE.write_text(picture.draw(document))


if __name__ == "__main__":
    sys.exit(main())
