"""The first start's secrets: written to a file before the admin is made, gone once they signed in.

Whatever ends a first start, its output or its process, the file is there before anybody needs it:
no instance is left that nobody can enter.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from marshmallow import ValidationError
from sqlalchemy import select

import auth
from core.clock import now
from core.database import db
from core.files import whole_file
from core.locks import writing
from core.permissions import Role, Scope
from core.settings import Settings, SettingsError
from models import User
from people import accounts
from schemas import UserCreate

KEY_NAME = "first start"
PASSWORD_BYTES = 12


@dataclass(frozen=True, slots=True)
class FirstStart:
    """What the operator needs first, in clear; no password if they chose it themselves.

    `path` is the file that holds it too, `key` is None where no file could be written.
    """

    username: str
    password: str | None
    key: str | None
    path: Path
    base: str

    @property
    def text(self) -> str:
        """The secrets, and the first two things to do."""
        if self.key is None:
            return self.whereabouts
        return _TEXT.format(
            username=self.username,
            password=self.password or "the one in PIXELKEEP_ADMIN_PASSWORD",
            key=self.key,
            base=self.base,
        )

    @property
    def whereabouts(self) -> str:
        """Where the secrets are, for those who may read the file."""
        if self.key is None:
            return (
                f"Pixelkeep is set up: sign in as {self.username}, with the password in"
                " PIXELKEEP_ADMIN_PASSWORD. `script/pixelkeep keys create` makes API keys."
            )
        return (
            f"Pixelkeep is set up. How to sign in as {self.username}, and an API key, are in"
            f" {self.path} until then."
        )


def make_admin(chosen: Settings) -> FirstStart | None:
    """Make the first user where there is none, their secrets written down before.

    Of several starts at once one makes the user; the others return None.

    Raises: SettingsError for a name or a password that nobody could sign in with, or where the
    password could be shown to nobody.
    """
    if _has_users():
        return None
    password = chosen.admin_password or secrets.token_urlsafe(PASSWORD_BYTES)
    _require_usable(chosen.admin_username, password)
    user = accounts.new_user(chosen.admin_username, password, Role.ADMIN)
    # For scripts that make pixels; what rules over people takes a sign-in.
    row, key = auth.create_key(user, KEY_NAME, scope=Scope.WRITE)
    shown = None if chosen.admin_password else password
    first = FirstStart(user.username, shown, key, chosen.first_start_path, chosen.base_url)
    with writing():
        if _has_users():
            return None
        is_written = _write(first)
        db.session.add(user)
        db.session.flush()
        if is_written:
            db.session.add(row)
    return first if is_written else replace(first, key=None)


def forget_if_used(chosen: Settings) -> None:
    """Remove this node's file once an admin has signed in, on whichever node that was."""
    if not chosen.first_start_path.exists():
        return
    used = select(User.id).where(User.role == Role.ADMIN, User.signed_in_at.is_not(None))
    if db.session.scalar(used.limit(1)) is not None:
        chosen.first_start_path.unlink(missing_ok=True)


def forget_password_of(user: User, chosen: Settings) -> None:
    """Remove the file if it holds this user's password, which is another now.

    Other nodes' housekeepers remove theirs, as after the first sign-in.
    """
    first = db.session.scalar(select(User.id).order_by(User.created_at).limit(1))
    if user.id == first and user.signed_in_at is None:
        with writing():
            user.signed_in_at = now()
    forget_if_used(chosen)


def _has_users() -> bool:
    return db.session.scalar(select(User.id).limit(1)) is not None


def _write(first: FirstStart) -> bool:
    """Write the secrets down; False where that can't be, and the operator knows the password."""
    try:
        with whole_file(first.path) as file:
            file.write(first.text)
    except OSError as error:
        if first.password is None:
            return False
        raise SettingsError(
            f"{first.path}, for the first user's password, can't be written: {error.strerror}."
            " Choose the password yourself, in PIXELKEEP_ADMIN_PASSWORD."
        ) from None
    return True


def _require_usable(username: str, password: str) -> None:
    """Refuse what nobody could sign in with, by the rules of every other user."""
    try:
        UserCreate().load({"username": username, "password": password, "role": Role.ADMIN})
    except ValidationError as error:
        name, problems = next(iter(error.messages_dict.items()))
        raise SettingsError(
            f"PIXELKEEP_ADMIN_{name.upper()} can't be used: {problems[0]}"
        ) from None


_TEXT = """
Pixelkeep is set up. Keep this safe: the file that holds it goes when the admin first signs in.

  user name: {username}
  password:  {password}
  API key:   {key}

Open {base}/ in a browser and sign in, or create a pixel here:

curl -X POST "{base}/api/pixels" \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "name": "Email Campaign Tracker",
    "slug": "email-campaign"
  }}'

Embed it:

<img src="{base}/api/send?slug=email-campaign" width="1" height="1" alt="" />
"""
