"""`python -m bench`: measure the rows, print the table, write results.json and its picture."""

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
from bench.checks import CheckFailed, log
from bench.databases import Databases
from bench.fixture import FULL, QUICK, Fixture, Scale
from bench.report import Result
from bench.rows import AGAINST, ALTERNATIVES, CASES, NAMES, Case
from config import ROOT

ROUNDS_MIN = 3


def main() -> int:
    """Run the chosen rows. Return 0 when every one was measured and reached its goal."""
    options = _options()
    scale = _scale(options)
    # When the bench is terminated, its servers must end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = _chosen(options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kopeck-bench-")))
        databases = Databases(folder, stack)
        fixture = Fixture(scale=scale, folder=folder, databases=databases, before=options.against or ROOT)
        results = [result for case in chosen for result in measure(fixture, case)]
    parts = [report.table(results)]
    parts += [
        f"{family}: {', '.join(f'{n}={v}' for n, v in settings.items())}"
        for family, settings in databases.settings.items()
    ]
    if options.quick:
        parts.append("A SMOKE RUN (--quick): its figures are not to be quoted. results.json is unchanged.")
    elif options.only or options.against:
        parts.append("Not the whole bench of this version (--only, --against): results.json is unchanged.")
    else:
        _save(results, scale, databases)
    sys.stdout.write("\n\n".join(parts) + "\n")
    return 0 if all(result.met for result in results) else 1


def measure(fixture: Fixture, case: Case) -> list[Result]:
    """Measure one case. When anything fails, its rows have no figure, and the next case follows."""
    names = ", ".join(goal.name for goal in case.goals)
    results = [Result(goal=goal, scale=fixture.scale) for goal in case.goals]
    log(f"{time.strftime('%H:%M:%S')} {names}")
    try:
        with fixture.row():
            for measured in case.rounds(fixture):
                for result, value in zip(results, measured.values, strict=True):
                    result.values.append(value)
                    result.figures.append(measured.figures)
    except Exception as error:
        if not isinstance(error, CheckFailed):
            traceback.print_exc()
        log(f"  no figure: {error}")
        for result in results:
            result.failed = (str(error) or type(error).__name__).splitlines()[0]
    return results


def _chosen(options: argparse.Namespace) -> tuple[Case, ...]:
    if not options.only:
        return AGAINST if options.against else CASES
    cases = AGAINST if options.against else (*CASES, *ALTERNATIVES)
    return tuple(case for case in cases if {goal.name for goal in case.goals} & set(options.only))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help=f"rounds of each row (default {FULL.rounds})")
    parser.add_argument("--seconds", type=int, help=f"seconds of each measurement (default {FULL.seconds})")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=NAMES, help=f"single rows: {', '.join(NAMES)}")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="compare with another checkout, for instance of an older commit"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run of some four minutes, without real figures")
    options = parser.parse_args()
    if not options.quick and options.rounds is not None and options.rounds < ROUNDS_MIN:
        parser.error(f"a median needs at least --rounds {ROUNDS_MIN}")
    return options


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else FULL
    return replace(scale, rounds=options.rounds or scale.rounds, seconds=options.seconds or scale.seconds)


def _save(results: list[Result], scale: Scale, databases: Databases) -> None:
    document = report.document(results, scale, databases.settings)
    picture.RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    picture.PICTURE.write_text(picture.draw(document))


if __name__ == "__main__":
    sys.exit(main())
