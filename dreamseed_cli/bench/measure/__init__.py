"""What is computed from records: latencies, rates, their intervals, and whether they may be believed."""
