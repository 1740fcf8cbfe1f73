"""The jobs that run behind the doors, with and without Celery."""
