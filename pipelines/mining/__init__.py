"""Mining of video files into scored and embedded face tracks: probe, tracks, scores, embeddings."""
