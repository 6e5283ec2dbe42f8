"""Nothing lost: backups that count only once proven, WAL archiving, restore, and where they are kept."""
