"""Jump processes."""
