"""A bank that sends everything wrongly, and the check of what the shop made of it."""
