"""How gunicorn serves the bare Flask app: what it does by itself, with as many processes of the same kind as Kopeck."""

workers = 2
worker_class = "gevent"
# Two servers of one user would share it.
control_socket_disable = True
