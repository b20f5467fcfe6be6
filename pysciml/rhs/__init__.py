"""Right-hand sides: from a torch function to Graphs, and from Graphs to what a solver calls."""
