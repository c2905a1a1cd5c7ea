"""The edges, and what they share."""
