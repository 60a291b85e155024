"""Sample clips made from what installed packages ship, for a first run without any data."""
