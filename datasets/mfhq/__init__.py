"""The MFHQ corpus: the one definition of every table, content ids, and published snapshots."""
