"""From source files to scored, embedded face tracks: probe, shots, tracks, scores, embeddings."""
