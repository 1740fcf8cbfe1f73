"""How three databases are made to behave alike; callers name the module that they need."""
