"""`dreamseed doctor`: the box and its profile from end to end, looked at and nothing else."""
