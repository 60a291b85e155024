"""Sources of studio people, and what a renderer needs to know about a person."""
