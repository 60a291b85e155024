"""NeRSemble: its layouts on disk, cameras, colour calibration, tracking, and the benchmark's held-out recordings."""
