"""The worker's loop: a job that fails is passed over for a while, and the others go on."""

from worker import loop


def test_job_that_failed_is_passed_over_and_said_in_the_log(caplog):
    tried = []

    def fail() -> int:
        tried.append("fail")
        raise ValueError("a reason of ours")

    failing, well = loop._JobRunner(fail), loop._JobRunner(lambda: 3)

    assert [failing.run() + well.run() for _ in range(3)] == [3, 3, 3]
    assert tried == ["fail"]
    assert "worker: unexpected error" in caplog.text


def test_job_that_failed_is_run_again():
    answers = iter([ValueError(), None])

    def once_broken() -> int:
        if error := next(answers):
            raise error
        return 1

    runner = loop._JobRunner(once_broken, pause_seconds=0)

    assert [runner.run(), runner.run()] == [0, 1]
