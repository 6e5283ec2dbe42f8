"""Physical backups: the data folder itself, copied while in use and restored to any later moment."""
