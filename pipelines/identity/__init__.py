"""From track embeddings to people."""
