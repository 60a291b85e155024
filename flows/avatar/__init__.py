"""Avatars in use: reconstruct, animate, export, view. No Prefect and no Ray."""
