"""The engine: steps on items of shards, committed by markers, run on Ray Data."""
