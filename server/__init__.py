"""What stands between HTTP and the doors."""

REQUEST_ID = "kopeck.request_id"
"""The member of a WSGI environment that holds the id of the request, which its caller gets in X-Request-Id."""
