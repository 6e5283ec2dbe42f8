"""Does this model fit this box: pure functions over the figures of cards and models."""
