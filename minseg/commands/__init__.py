"""What each command of `minseg` does: prints, and returns the exit code."""
