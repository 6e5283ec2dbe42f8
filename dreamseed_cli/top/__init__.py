"""`dreamseed top`: everything live on one screen of 80 columns and 24 lines."""
