"""What people see: the payer's pages and the dashboard."""
