"""`dreamseed db tune`: a server's settings from its box's memory, cores and disk."""
