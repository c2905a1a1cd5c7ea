"""What keeps the database well: retention, reclassification, backup, demo data."""
