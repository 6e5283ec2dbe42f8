"""The answer as one page that needs nothing else."""
