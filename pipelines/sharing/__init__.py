"""Passing a snapshot on: what rights allow, its data card, and exports in the formats of other libraries."""
