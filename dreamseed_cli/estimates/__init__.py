"""The document's figures as data, and what arithmetic and the newest results say to each."""
