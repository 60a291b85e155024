"""Use of avatars: reconstruct, animate, export, view. No Prefect and no Ray."""
