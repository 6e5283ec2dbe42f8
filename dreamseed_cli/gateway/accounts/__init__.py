"""Users, tiers and API keys, and what a user may use."""
