"""From calibrated multi-view captures, whatever their format, to the tables of a corpus."""
