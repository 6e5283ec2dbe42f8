"""What every room may use: errors, results and their rendering, processes, logging. Imports no room."""
