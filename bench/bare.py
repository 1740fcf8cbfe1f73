"""The usual way to send events: a `requests.Session` in each thread. Nothing is stored or signed.

`python -m bench.bare URL FILE COUNT` repeats the requests of FILE until it has sent COUNT of them.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import requests

from limits import DELIVERY_SECONDS, ENDPOINT_SENDERS_MAX

Request = tuple[dict[str, str], bytes]


def main(url: str, file: str, count: int) -> int:
    """Send from as many threads as a worker uses for one endpoint. Return 0 when every answer was 200.

    Prints how many seconds of the processor that took.
    """
    prepared: list[Request] = [
        (headers, body.encode("latin-1")) for headers, body in json.loads(Path(file).read_text())
    ]
    remaining = islice(cycle(prepared), count)
    lock, failures = threading.Lock(), list[int]()
    threads = [
        threading.Thread(target=_send, args=(url, remaining, lock, failures)) for _ in range(ENDPOINT_SENDERS_MAX)
    ]
    before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(time.process_time() - before)
    return 1 if failures else 0


def _send(url: str, remaining: Iterator[Request], lock: threading.Lock, failures: list[int]) -> None:
    with requests.Session() as session:
        while True:
            with lock:
                request = next(remaining, None)
            if request is None:
                return
            headers, body = request
            answer = session.post(url, data=body, headers=headers, timeout=DELIVERY_SECONDS)
            if answer.status_code != 200:
                failures.append(answer.status_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
