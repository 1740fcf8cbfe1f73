"""What most people would send events with: a `requests.Session` in each thread, and nothing that is kept or signed.

`python -m bench.bare URL FILE COUNT`: FILE holds what is sent, over and over, until it is COUNT in all.
"""

import json
import sys
import threading
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import requests

from limits import DELIVERY_SECONDS, ENDPOINT_SENDERS_MAX

Request = tuple[dict[str, str], bytes]


def main(url: str, file: str, count: int) -> int:
    """Send from as many threads as a worker uses for one endpoint; 0 when every answer was a good one."""
    kept: list[Request] = [(headers, body.encode("latin-1")) for headers, body in json.loads(Path(file).read_text())]
    left = islice(cycle(kept), count)
    lock, bad = threading.Lock(), list[int]()
    threads = [threading.Thread(target=_send, args=(url, left, lock, bad)) for _ in range(ENDPOINT_SENDERS_MAX)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1 if bad else 0


def _send(url: str, left: Iterator[Request], lock: threading.Lock, bad: list[int]) -> None:
    with requests.Session() as session:
        while True:
            with lock:
                request = next(left, None)
            if request is None:
                return
            headers, body = request
            answer = session.post(url, data=body, headers=headers, timeout=DELIVERY_SECONDS)
            if answer.status_code != 200:
                bad.append(answer.status_code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
