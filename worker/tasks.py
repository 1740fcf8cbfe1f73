"""Door: Celery. Runs the jobs when a message wakes it and on every tick of beat, on as many machines as there are.

Loaded by `celery -A worker.tasks worker`, `beat` and `flower`, with the settings of everything else. Holds no lock and
keeps no result: messages only wake, rows say what there is to do, and every job may run any number of times at once.
"""

import logging
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from celery.beat import Scheduler, SchedulingError
from celery.signals import worker_ready
from flask import Flask
from werkzeug.utils import import_string

import config
from database.failures import is_unavailable, log_crash, log_unavailable
from enums import Job
from limits import BEAT_SECONDS, JOB_SECONDS_MAX, REPLAY_BEAT_SECONDS, TASK_SECONDS
from worker import broker, consumer, jobs, signals

log = logging.getLogger("kopeck")

create_app: Callable[[config.Config], Flask] = import_string("app:create_app")
"""By name, as gunicorn does: the app stands above its doors. At once: later this folder is not in Python's path."""

TICKS = {Job.DELIVER: BEAT_SECONDS, Job.CREDIT: BEAT_SECONDS, Job.REPLAY: REPLAY_BEAT_SECONDS}

settings: config.Config = import_string("app:load_settings")()
if settings.broker_url is None:
    config.end_if(["CELERY_BROKER_URL is missing: Celery needs a broker, and `flask worker` does the same without one"])

celery = broker.new_celery(str(settings.broker_url), settings.ca_bundle)
celery.set_current()
consumer.install()
worker_ready.connect(signals.keep_settings)
celery.conf.update(
    task_ignore_result=True,
    # Acknowledged before it runs, and not sent again when its process dies: a wake-up that is lost costs one tick,
    # one that kills its process would come back for ever, and a broker that waits long for an answer hangs up.
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    worker_prefetch_multiplier=1,
    # Whoever may write to the broker could otherwise end workers, or have them do other things than their jobs.
    worker_enable_remote_control=False,
    worker_consumer="worker.consumer:Consumer",
    task_time_limit=JOB_SECONDS_MAX,
    # The log is ours to set up; what is printed is not a warning.
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # A broker may be away for as long as it likes.
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Concerns late acknowledgements, which there are none of; said so that Celery does not warn of its next version.
    worker_cancel_long_running_tasks_on_connection_loss=True,
    beat_scheduler="worker.tasks:BeatScheduler",
    beat_schedule={
        str(job): {"task": broker.task_name(job), "schedule": seconds, "options": broker.MESSAGE}
        for job, seconds in TICKS.items()
    },
)


class BeatScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler, without a file: there is nothing to remember of "each second".

    Says in one line that the broker is away, where Celery writes two stacks at every tick.
    """

    broker_answers = True

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send a tick; one that cannot be sent is not made up for."""
        try:
            self.apply_async(entry, producer=producer, advance=False)
            self.broker_answers = True
        except SchedulingError as error:
            if self.broker_answers:
                log.warning(
                    "broker not available (%s): no job is started until it is", type(error.__context__).__name__
                )
            self.broker_answers = False


class JobFailed(Exception):
    """A job ended early; the log has said why. Celery gets no more: databases quote what a bank sent."""


def _task(job: Callable[[], None]) -> Callable[[], None]:
    """Make a job a task, inside the app of this process."""

    @wraps(job)
    def run() -> None:
        with _app().app_context():
            try:
                job()
                return
            except Exception as error:
                _log(job.__name__, error)
        raise JobFailed

    celery.task(run, name=f"kopeck.{job.__name__}", throws=(JobFailed,))
    return run


@_task
def deliver() -> None:
    """Send what is due."""
    jobs.deliver(TASK_SECONDS)


@_task
def credit() -> None:
    """Credit what waits in the inbox."""
    jobs.credit(TASK_SECONDS)


@_task
def replay() -> None:
    """Queue what replays ask for."""
    jobs.replay(TASK_SECONDS)


@cache
def _app() -> Flask:
    """Make the app when the first task runs: after the fork, which connections and threads would not survive."""
    app = create_app(settings)
    with app.app_context():
        try:
            jobs.look_at_start()
        except Exception as error:
            _log("start", error)
    return app


def _log(job: str, error: Exception) -> None:
    if is_unavailable(error):
        log_unavailable(f"task {job}", error)
    else:
        log_crash(f"task {job}", error)
