"""When backups run by themselves: the due moment, the timer's files, and what every tick does."""
