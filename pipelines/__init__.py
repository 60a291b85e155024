"""Pure steps over Arrow tables, and the one adapter (``engine``) that runs them on Ray."""
