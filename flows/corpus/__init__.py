"""Commands on a corpus that are no Prefect flow, and what the flows share."""
