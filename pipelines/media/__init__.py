"""Video and images: metadata, decoding in a child process, shots, cameras, encoding."""
