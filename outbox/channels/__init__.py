"""How an event travels: one file a channel."""
