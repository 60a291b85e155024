"""Take-downs: removal of the people and files that a request names from every file and every later snapshot."""
