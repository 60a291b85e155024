"""The engine: runs steps on the items of shards with Ray Data, and commits their output by markers."""
