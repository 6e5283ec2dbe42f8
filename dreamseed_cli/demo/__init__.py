"""A newcomer's first minutes: start, ask, measure a burst, stop."""
