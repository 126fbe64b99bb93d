"""Who rents which PC, for how long, and who gets paid."""
