"""A month in quantities: what is asked, and what Cloud Run and the box do of it. No money yet."""
