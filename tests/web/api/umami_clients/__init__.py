"""Programs that others wrote for Umami, driven unchanged against a running server."""
