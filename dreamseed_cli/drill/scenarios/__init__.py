"""What can be rehearsed: one disaster a file, on real servers, stores and keys."""
