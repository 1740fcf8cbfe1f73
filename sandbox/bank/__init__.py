"""The mock bank: signs webhooks, sends them to a shop, shows what came back."""
