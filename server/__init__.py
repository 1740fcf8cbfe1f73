"""What stands between HTTP and the doors."""
