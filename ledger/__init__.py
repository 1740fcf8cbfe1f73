"""Money that has arrived: balances, their log, and what a person must look at."""
