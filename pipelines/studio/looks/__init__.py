"""Appearance of a person as textures and materials."""
