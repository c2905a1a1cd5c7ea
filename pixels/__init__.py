"""Pixels and their recipients: what an owner can do with them."""
