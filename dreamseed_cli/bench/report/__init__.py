"""Reports: HTML, CSV, tables on the terminal, and the comparison of two runs."""
