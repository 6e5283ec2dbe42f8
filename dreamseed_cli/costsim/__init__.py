"""What the service costs, from 1,000 users to 1,000,000 and beyond, and whether the box holds (§F, §J)."""
