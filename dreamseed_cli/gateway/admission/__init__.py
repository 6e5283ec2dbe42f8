"""Who may go to an engine next: classes, shares, deadlines, and which engine."""
