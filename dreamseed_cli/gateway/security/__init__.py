"""TLS, certificates and who a caller is."""
