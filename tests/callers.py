"""Those who call Kopeck, with real signatures and real HTTP shapes."""

from dataclasses import dataclass

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import signing
from tests.factories import SECRET, make_body

WEBHOOK = "/api/v1/webhook/bank/"


@dataclass
class Bank:
    """A bank that knows how to sign, and can be told to do it badly."""

    client: FlaskClient
    secret: str = SECRET

    def send(self, *, to: str = WEBHOOK, **members: object) -> TestResponse:
        """Announce money; members override those of the sample."""
        return self.push(make_body(**members), to=to)

    def push(
        self, body: bytes, *, signature: str | None = None, content_type: str = "application/json", to: str = WEBHOOK
    ) -> TestResponse:
        """Send these very bytes, signed unless another signature is given."""
        headers = {"X-Signature": signing.sign(body, self.secret) if signature is None else signature}
        return self.client.post(to, data=body, headers=headers, content_type=content_type)


@dataclass
class Operator:
    """Somebody with an API key."""

    client: FlaskClient
    key: str

    def get(self, path: str, **query: object) -> TestResponse:
        return self.client.get(f"/api/v1{path}", query_string=query, headers=self._headers())

    def post(self, path: str, **body: object) -> TestResponse:
        return self.client.post(f"/api/v1{path}", json=body, headers=self._headers())

    def delete(self, path: str) -> TestResponse:
        return self.client.delete(f"/api/v1{path}", headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}
