"""The only module that opens a socket to somebody else: time limits, no redirects, no proxies from the environment.

Called by the CLI. Never decides what an answer means.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass

import requests
import urllib3

CONNECT_SECONDS = 5
READ_SECONDS = 30
ANSWER_BYTES_MAX = 64 * 1024


class Unreachable(Exception):
    """No answer came; the message says why in our own words."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, the body cut off at ANSWER_BYTES_MAX."""

    status: int
    reason: str
    body: bytes


def is_free(host: str, port: int) -> bool:
    """Tell whether this machine could listen on an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """POST a body once and return the answer, whatever its status; raise Unreachable."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            with session.post(
                url,
                data=body,
                headers=dict(headers),
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False,
                stream=True,
            ) as response:
                return Answer(
                    status=response.status_code,
                    reason=response.reason,
                    body=response.raw.read(ANSWER_BYTES_MAX, decode_content=True),
                )
        except urllib3.exceptions.HTTPError:
            raise Unreachable("The answer broke off or cannot be read.") from None
        except requests.ConnectionError:
            raise Unreachable("Nothing answers at this address. Is the server running (`make run`)?") from None
        except requests.Timeout:
            raise Unreachable(f"No answer came within {READ_SECONDS} seconds.") from None
        except (requests.RequestException, ValueError):
            raise Unreachable("This address cannot be used; a good one looks like http://127.0.0.1:8000/…") from None
