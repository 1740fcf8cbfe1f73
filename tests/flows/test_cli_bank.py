"""`flask bank`: a signed webhook for a first try, sent or printed."""

import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import signing
from tests import wsgi
from tests.factories import SECRET


class TestBankSend:
    @pytest.fixture
    def server(self, app):
        with wsgi.listening(app) as url:
            yield f"{url}/api/v1/webhook/bank/"

    def test_sends_a_signed_webhook_and_shows_both_sides(self, run, server, check_ledger):
        result = run("bank", "send", "--url", server, "--repeat", "2", "--amount", "100")

        assert result.exit_code == 0, result.output
        assert result.output.count("> X-Signature: ") == 2
        assert '"status":"credited"' in result.output
        assert '"status":"duplicate"' in result.output
        check_ledger()

    def test_refusal_is_shown_and_fails(self, run, server):
        result = run("bank", "send", "--url", server, "--inn", "123")

        assert result.exit_code == 1
        assert "#/payer_inn" in result.output

    def test_nobody_there_is_said_in_one_line(self, run):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            result = run("bank", "send", "--url", f"http://127.0.0.1:{free.getsockname()[1]}/")

        assert result.exit_code == 1
        assert "Nothing answers at this address" in result.output

    @pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://[::1"])
    def test_address_that_is_none_is_said_in_one_line(self, run, url):
        result = run("bank", "send", "--url", url)

        assert result.exit_code == 1
        assert "Error: " in result.output
        assert "Traceback" not in result.output

    def test_redirect_is_not_followed(self, run):
        class Redirect(BaseHTTPRequestHandler):
            asked = 0

            def do_POST(self) -> None:
                type(self).asked += 1
                self.send_response(302)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        result = run("bank", "send", "--url", f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()
        server.server_close()

        assert (result.exit_code, Redirect.asked) == (1, 1)
        assert "< 302" in result.output


def test_curl_prints_a_signed_request_that_the_shell_can_run(run, tmp_path):
    output = run("bank", "curl").output
    fake = tmp_path / "curl"
    fake.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    fake.chmod(0o755)

    words = subprocess.run(
        ["sh", "-c", output], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert words[1] == "http://127.0.0.1:8000/api/v1/webhook/bank/"
    signature, body = words[5].removeprefix("X-Signature: "), words[7]
    assert signing.sign(body.encode(), SECRET) == signature


def test_welcome_shows_a_first_webhook_unless_the_port_is_taken(make_app):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        free = make_app(PORT=port).test_cli_runner()
        other.listen()
        taken = free.invoke(args=["bank", "welcome"])
    served = free.invoke(args=["bank", "welcome"])

    assert taken.exit_code == 1
    assert "`flask bank curl`" in taken.output
    assert f"such as PORT={int(port) + 10}" in taken.output
    assert served.exit_code == 0
    assert "Ctrl-C in this terminal ends all that `make run` starts." in served.output
    assert f"curl -sS http://127.0.0.1:{port}/api/v1/webhook/bank/" in served.output
