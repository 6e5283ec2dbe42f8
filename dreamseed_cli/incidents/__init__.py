"""What went wrong and how it ended: kept by the supervisor, read with `dreamseed incidents`."""
