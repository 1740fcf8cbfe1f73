"""How the mock gateway speaks: one file for each acquirer whose API it imitates."""
