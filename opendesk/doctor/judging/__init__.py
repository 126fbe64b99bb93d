"""Facts in, findings out: nothing here looks at anything itself."""
