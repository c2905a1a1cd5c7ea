"""The commands for webhooks."""

from __future__ import annotations

from uuid import UUID

import click
from flask import current_app

from cli.commands import Commands, as_json, confirm, main, print_rows, yes
from pixels import webhooks
from pixels.webhook_delivery import send_test


@main.group("webhooks", cls=Commands)
def webhook_commands() -> None:
    """List, test, resume and delete webhooks."""


@webhook_commands.command("list")
@as_json
def list_webhooks(as_json: bool) -> None:
    """List all webhooks, never their secrets."""
    print_rows(
        (
            {
                "id": webhook.id,
                "url": webhook.url,
                "events": ",".join(webhook.events),
                "userId": webhook.user_id,
                "teamId": webhook.team_id,
                "pixelId": webhook.pixel_id,
                "status": webhook.status,
                "problem": webhook.problem,
                "createdAt": webhook.created_at,
            }
            for webhook in webhooks.every()
        ),
        as_json,
    )


@webhook_commands.command("deliveries")
@click.argument("webhook_id", type=click.UUID)
@as_json
def list_deliveries(webhook_id: UUID, as_json: bool) -> None:
    """List the newest hundred attempts to deliver, the newest first."""
    print_rows(webhooks.find(webhook_id).log[::-1], as_json)


@webhook_commands.command("test")
@click.argument("webhook_id", type=click.UUID)
def test_webhook(webhook_id: UUID) -> None:
    """Send an event of type pixel.test, once and now."""
    webhook = webhooks.find(webhook_id)
    found = send_test(
        webhook,
        current_app.config["SECRET_KEYS"],
        private_allowed=current_app.config["SETTINGS"].webhook_private,
    )
    click.echo(f"{found['error'] or found['status']} ({found['milliseconds']} ms)")


@webhook_commands.command("resume")
@click.argument("webhook_id", type=click.UUID)
def resume_webhook(webhook_id: UUID) -> None:
    """Make a paused webhook go on where it stopped."""
    webhooks.change(webhooks.find(webhook_id), status="active")
    click.echo("Resumed.")


@webhook_commands.command("delete")
@click.argument("webhook_id", type=click.UUID)
@yes
def delete_webhook(webhook_id: UUID, yes: bool) -> None:
    """Delete a webhook; events that still wait are not delivered."""
    webhook = webhooks.find(webhook_id)
    confirm(f"Delete the webhook to {webhook.url}?", yes)
    webhooks.remove(webhook)
    click.echo("Deleted.")
