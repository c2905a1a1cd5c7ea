"""Accounts and teams, and the throttling of logins."""
