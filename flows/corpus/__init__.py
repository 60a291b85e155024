"""Commands on a corpus that are not Prefect flows, and code that the flows share."""
