"""`dreamseed deploy`: what other systems need, rendered from the profile that runs (§C, §D2, §E1, §G)."""
