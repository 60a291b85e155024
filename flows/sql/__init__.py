"""Command ``ffavatar sql``: questions and queries over a snapshot, files of their rows, and a shell."""
