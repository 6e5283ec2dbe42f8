"""A month's bill: what its quantities cost at a book's prices, line by line."""
