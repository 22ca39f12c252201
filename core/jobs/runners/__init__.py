"""Ways to run a job's process: one file each, found by scanning."""
