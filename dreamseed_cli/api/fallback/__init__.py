"""Somebody else's model for when the gateway is out of reach (§H2), within a monthly cap of money."""
