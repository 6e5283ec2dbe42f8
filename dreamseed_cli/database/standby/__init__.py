"""Two servers, one of which follows the other: who is asked, who is written to, the way back (§E3)."""
