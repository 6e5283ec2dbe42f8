"""A drill as one page that needs nothing else."""
