"""People looked over by a reviewer: which clusters deserve an eye, a page for them, and decisions as rows."""
