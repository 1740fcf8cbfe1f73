"""The worker's loop: a job that fails is passed over for a while, and the others go on."""

from worker import loop


def test_job_that_failed_is_passed_over_and_said_in_the_log(caplog):
    tried = []

    def fail() -> int:
        tried.append("fail")
        raise ValueError("a reason of ours")

    failing, well = loop._JobRunner(fail), loop._JobRunner(lambda: 3)

    assert [failing.take() + well.take() for _ in range(3)] == [3, 3, 3]
    assert tried == ["fail"]
    assert "worker: unexpected error" in caplog.text


def test_job_that_failed_has_its_turn_again(monkeypatch):
    monkeypatch.setattr(loop, "RETRY_AFTER_SECONDS", 0)
    answers = iter([ValueError(), None])

    def once_broken() -> int:
        if error := next(answers):
            raise error
        return 1

    turn = loop._JobRunner(once_broken)

    assert [turn.take(), turn.take()] == [0, 1]
