"""Plans of runs, checked before Ray starts."""
