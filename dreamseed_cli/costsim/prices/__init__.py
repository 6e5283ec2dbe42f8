"""The price book: what everything costs, as data with unit, source and date."""
