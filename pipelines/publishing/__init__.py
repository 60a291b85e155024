"""Publication of the steps' outputs as an audited snapshot."""
