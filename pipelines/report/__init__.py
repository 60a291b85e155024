"""The corpus in pictures: one HTML page."""
