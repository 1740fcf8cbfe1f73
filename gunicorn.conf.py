"""How gunicorn serves Kopeck: `gunicorn` alone, in this folder, is the whole command."""

from config import load

_settings = load()

wsgi_app = "app:create_app()"
bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
# Two processes, so that one that dies does not take the door with it; threads, because a webhook
# mostly waits for the database's disk.
workers = 2
worker_class = "gthread"
threads = 8
# No header may change which application or path is meant; SCRIPT_NAME and PATH_INFO could by default.
forwarder_headers = ""
# gunicorn 27 opens a control socket under HOME, where a second server would take its place.
control_socket_disable = True
