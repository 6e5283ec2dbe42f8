"""Where backups are kept: a local folder, Backblaze B2, an S3-compatible bucket, behind one interface."""
