"""Experiments that render their data where they train, with torch, gsplat, numpy and the studio alone: no Ray."""
