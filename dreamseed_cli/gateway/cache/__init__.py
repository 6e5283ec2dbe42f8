"""Complete answers kept for an hour, and equal requests answered together."""
