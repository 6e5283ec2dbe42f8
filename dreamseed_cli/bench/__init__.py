"""Measuring what the box really does: load, measurement, validity, suites, reports."""
