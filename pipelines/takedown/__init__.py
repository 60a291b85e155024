"""Take-downs: what a request names leaves every snapshot to come, and every file of the corpus."""
