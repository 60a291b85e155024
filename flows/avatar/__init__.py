"""Commands on avatars: reconstruct, animate, export and view; they use neither Prefect nor Ray."""
