"""Measurements of the whole system against references in the same run: `python -m bench`, see README.md."""
