"""Loaded by schemathesis in a process of its own: signs, as a bank would, the very bytes that are about to be sent."""

import requests
import schemathesis

import signing
from tests.factories import SECRET


@schemathesis.auth().apply_to(path_regex="/webhook/bank/")
class Signature:
    """The X-Signature of a generated body."""

    def get(self, case: schemathesis.Case, _context: schemathesis.AuthContext) -> str:
        request = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
        body = request.body or b""
        return signing.sign(body.encode() if isinstance(body, str) else body, SECRET)

    def set(self, case: schemathesis.Case, data: str, _context: schemathesis.AuthContext) -> None:
        case.headers = {**(case.headers or {}), "X-Signature": data}
