"""What everything stands on: settings, keys, errors, clock, database, locks, links."""
