"""Disaster rehearsals: each loses something on purpose beside the live system, and measures the way back."""
