"""NeRSemble: its layouts on disk, calibration, colour, tracking, and the benchmark on its hold-out recordings."""
