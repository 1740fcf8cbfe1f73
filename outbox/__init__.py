"""Events on their way out: recorded with the money, claimed by a worker, sent, tried again."""
