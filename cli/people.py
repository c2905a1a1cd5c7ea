"""The commands for users, API keys and teams."""

from __future__ import annotations

from uuid import UUID

import click
from flask import current_app

from cli.commands import (
    Commands,
    as_json,
    confirm,
    loaded,
    main,
    new_password,
    pixel_named,
    print_rows,
    team_named,
    user_named,
    yes,
)
from core.permissions import Role, Scope, TeamRole
from people import accounts, first_start, teams


@main.group("users", cls=Commands)
def user_commands() -> None:
    """Create, list and delete users."""


@user_commands.command("create")
@click.argument("username")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.USER.value,
    show_default=True,
    help="admin: everything; user: makes pixels and teams; view-only: neither.",
)
@click.option("--password", help="Asked for unless given.")
def create_user(username: str, role: str, password: str | None) -> None:
    """Create a user; the password is asked for unless given."""
    password = new_password(password)
    values = loaded("UserCreate", {"username": username, "password": password, "role": role})
    user = accounts.create_user(values["username"], values["password"], Role(role))
    click.echo(f"Created {role} {user.username}: {user.id}")


@user_commands.command("password")
@click.argument("username")
@click.option("--password", help="Asked for unless given.")
def set_password(username: str, password: str | None) -> None:
    """Give a user a new password in place of a lost one; all of their tokens and sessions end.

    API keys stay.
    """
    user = user_named(username)
    values = loaded("UserUpdate", {"password": new_password(password)})
    user = accounts.change_user(user, **values)
    first_start.forget_password_of(user, current_app.config["SETTINGS"])
    click.echo(f"{user.username} has a new password.")


@user_commands.command("list")
@as_json
def list_users(as_json: bool) -> None:
    """List all users by name."""
    print_rows(
        (
            {
                "id": user.id,
                "username": user.username,
                "role": user.role,
                "createdAt": user.created_at,
            }
            for user in accounts.every_user()
        ),
        as_json,
    )


@user_commands.command("delete")
@click.argument("username")
@yes
def delete_user(username: str, yes: bool) -> None:
    """Delete a user and their personal pixels; a team's pixels stay."""
    user = user_named(username)
    confirm(f"Delete {username} and all of their personal pixels?", yes)
    accounts.remove_user(user)
    click.echo(f"Deleted {username}.")


@main.group("keys", cls=Commands)
def key_commands() -> None:
    """Create, list and revoke API keys."""


@key_commands.command("create")
@click.argument("username")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice([scope.value for scope in Scope]),
    default=Scope.ALL.value,
    show_default=True,
    help="read: see what the user may; write: that, and change pixels, recipients and webhooks;"
    " all: what the user may.",
)
@click.option("--pixel", metavar="SLUG", help="Reach this pixel only.")
@click.option("--team", type=click.UUID, metavar="ID", help="Reach this team and its pixels only.")
@click.option("--expires-at", metavar="INSTANT", help="End then, as in 2030-01-31T12:00:00Z.")
def create_key(
    username: str,
    name: str,
    scope: str,
    pixel: str | None,
    team: UUID | None,
    expires_at: str | None,
) -> None:
    """Create an API key for a user; it is printed this once."""
    values = loaded("ApiKeyCreate", {"name": name, "scope": scope, "expiresAt": expires_at})
    _, key = accounts.create_key(
        user_named(username),
        values["name"],
        scope=Scope(scope),
        pixel_id=pixel_named(pixel).id if pixel is not None else None,
        team_id=team_named(team).id if team else None,
        expires_at=values["expiresAt"],
    )
    click.echo(key)


@key_commands.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List all API keys, never the keys themselves."""
    print_rows(
        (
            {
                "id": key.id,
                "username": key.user.username,
                "name": key.name,
                "keyPrefix": key.key_prefix,
                "createdAt": key.created_at,
                "lastUsedOn": key.last_used_on,
                "scope": key.scope,
                "pixelId": key.pixel_id,
                "teamId": key.team_id,
                "expiresAt": key.expires_at,
            }
            for key in accounts.every_key()
        ),
        as_json,
    )


@key_commands.command("revoke")
@click.argument("username")
@click.argument("key_id", type=click.UUID)
@yes
def revoke_key(username: str, key_id: UUID, yes: bool) -> None:
    """End an API key at once."""
    confirm("Revoke the key?", yes)
    accounts.revoke_key(user_named(username), key_id)
    click.echo("Revoked.")


@main.group("teams", cls=Commands)
def team_commands() -> None:
    """Create, list and delete teams, and their members."""


@team_commands.command("create")
@click.argument("name")
@click.option("--owner", required=True, help="The owner's username.")
def create_team(name: str, owner: str) -> None:
    """Create a team."""
    values = loaded("TeamCreate", {"name": name})
    team, _ = teams.create_team(values["name"], user_named(owner))
    click.echo(f"Created {team.name}: {team.id}, access code {team.access_code}")


@team_commands.command("list")
@as_json
def list_teams(as_json: bool) -> None:
    """List all teams with the number of their members."""
    print_rows(
        (
            {
                "id": team.id,
                "name": team.name,
                "members": members,
                "createdAt": team.created_at,
            }
            for team, members in teams.with_member_counts()
        ),
        as_json,
    )


@team_commands.command("members")
@click.argument("team_id", type=click.UUID)
@as_json
def list_members(team_id: UUID, as_json: bool) -> None:
    """List the members of a team."""
    print_rows(
        (
            {"userId": member.user_id, "username": member.user.username, "role": member.role}
            for member in teams.every_member_of(team_named(team_id))
        ),
        as_json,
    )


@team_commands.command("add")
@click.argument("team_id", type=click.UUID)
@click.argument("username")
@click.option(
    "--role",
    type=click.Choice([role.value for role in TeamRole]),
    default=TeamRole.MEMBER.value,
    show_default=True,
    help="Owners and managers look after people and pixels, members after pixels.",
)
def add_member(team_id: UUID, username: str, role: str) -> None:
    """Add a user to a team, or change their role in it."""
    teams.set_member(team_named(team_id), user_named(username), TeamRole(role))
    click.echo(f"{username} is {role}.")


@team_commands.command("remove")
@click.argument("team_id", type=click.UUID)
@click.argument("username")
@yes
def remove_member(team_id: UUID, username: str, yes: bool) -> None:
    """Take a user out of a team."""
    confirm(f"Take {username} out of the team?", yes)
    teams.remove_member(team_named(team_id), user_named(username).id)
    click.echo(f"{username} is out.")


@team_commands.command("delete")
@click.argument("team_id", type=click.UUID)
@yes
def delete_team(team_id: UUID, yes: bool) -> None:
    """Delete a team and all of its pixels."""
    team = team_named(team_id)
    confirm(f"Delete {team.name} and all of its pixels?", yes)
    teams.remove_team(team)
    click.echo(f"Deleted {team.name}.")
