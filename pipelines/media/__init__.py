"""Reading and writing video: container metadata, decoding in a process that can be thrown away, encoding."""
