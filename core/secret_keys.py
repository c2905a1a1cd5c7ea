"""The signing keys: made at the first start, and rotated."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

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
    path = settings.secret_path.resolve()
    _drafted(path, [new, *([] if drop_old else old[::-1])]).replace(path)


def ensure_secret(settings: Settings) -> None:
    """Write a new key into the data directory (mode 0600) where nothing else names one.

    Of several processes one writes it, and the others use that.
    """
    path = settings.secret_path
    if settings.secret_key or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _drafted(path, [secrets.token_urlsafe(SECRET_BYTES)])
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _drafted(path: Path, keys: list[str]) -> Path:
    """Write keys to a new file beside `path`, readable by its owner only, and return it."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        draft.touch(mode=0o600)
        draft.write_text("\n".join(keys) + "\n")
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return draft
