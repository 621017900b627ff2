"""The command line: argument parsing and printing, and nothing else."""
