"""The signing keys: made at the first start, and rotated."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from core.files import whole_file
from core.settings import SECRET_BYTES, Settings, SettingsError


def rotate_secret(
    settings: Settings, *, drop_old: bool, before: Callable[[list[str]], object] = list
) -> None:
    """Put a new signing key before the others in their file, or in place of them.

    The servers go on with the keys that they started with. `before` is called with all keys, the
    oldest first, before the file is written: what only old keys can open is lost with them.

    Raises: SettingsError where the environment holds the keys itself.
    """
    if settings.secret_key:
        raise SettingsError(
            "PIXELKEEP_SECRET_KEY holds the keys; put a new one before the others there."
        )
    old, new = settings.secret_keys(), secrets.token_urlsafe(SECRET_BYTES)
    before([*old, new])
    with whole_file(settings.secret_path) as file:
        file.write(_lines([new, *([] if drop_old else old[::-1])]))


def ensure_secret(settings: Settings, kept: Path | None = None) -> bool:
    """Write a key into the data directory (mode 0600) where nothing else names one.

    It is that of the file `kept`, as a backup has one beside it, or a new one. Of several
    processes one writes it, and the others use that. Returns whether this one did.
    """
    path = settings.secret_path
    if settings.secret_key or path.exists():
        return False
    keys = kept.read_text().split() if kept else [secrets.token_urlsafe(SECRET_BYTES)]
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with whole_file(draft) as file:
            file.write(_lines(keys))
        path.hardlink_to(draft)
        return True
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)


def _lines(keys: list[str]) -> str:
    return "\n".join(keys) + "\n"
