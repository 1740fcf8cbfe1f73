"""The mock gateway itself, whatever API it is reached by: invoices, cards, payments, webhooks, mails."""
