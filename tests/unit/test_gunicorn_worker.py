"""The server's worker with a client of its own: what a whole server would take a minute to come to."""

from types import SimpleNamespace

import gevent
from gevent import socket
from gevent.event import Event
from gunicorn.config import Config
from gunicorn.glogging import Logger

from server.gunicorn_worker import Worker

SLOW_AND_SECOND = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_request_that_is_stopped_gets_no_answer_of_the_next_one():
    """As when a worker ends and a request takes longer than it may: the connection ends, and the client asks again."""
    begun = Event()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            begun.set()
            gevent.sleep(3600)
        start_response("200 OK", [("Content-Length", "6")])
        return [b"answer"]

    config = Config()
    worker = Worker(0, 0, [], SimpleNamespace(), 30, config, Logger(config))
    worker.wsgi = app
    worker.tmp.close()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, address = server.accept()
        serving = gevent.spawn(worker.handle, server, accepted, address)
        client.sendall(SLOW_AND_SECOND)
        begun.wait()
        worker.alive = False
        serving.kill()

        assert client.recv(100) == b""
