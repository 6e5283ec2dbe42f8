"""The validated description of a box, its engine, its gateway and its services."""
