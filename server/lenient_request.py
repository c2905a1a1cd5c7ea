"""gunicorn's request, without two refusals of images that can be read and one silent misreading.

What a GET asks for is known whatever its `Expect` or `Transfer-Encoding` says, so an image is a
stored hit. Of a body that somebody reads, no other coding than chunks is decoded here.
"""

from __future__ import annotations

from typing import Any

from gunicorn.http.errors import UnsupportedTransferCoding
from gunicorn.http.message import Request

# gunicorn refuses `identity` itself where it stands in the wrong place; it means nothing.
_DECODED = frozenset({"chunked", "identity"})


class LenientRequest(Request):
    """One request, as gunicorn reads it but for what the module says."""

    headers: list[tuple[str, str]]

    def _apply_header_policy(self, name: str, value: str, *args: Any, **kwargs: Any) -> Any:
        # RFC 9110, section 10.1.1, lets a server ignore what it can't meet; gunicorn refuses it.
        if name == "EXPECT" and value.lower() != "100-continue":
            return None
        return super()._apply_header_policy(name, value, *args, **kwargs)

    def set_body_reader(self) -> None:
        """Decide how the body is read.

        Raises: UnsupportedTransferCoding for one in a coding that would have to be decoded first;
        gunicorn hands what was packed by gzip to the application as if it were plain.
        """
        fields = [value for name, value in self.headers if name == "TRANSFER-ENCODING"]
        codings = {coding.strip(" \t").lower() for coding in ",".join(fields).split(",")}
        if fields and not codings <= _DECODED:
            if self.method not in ("GET", "HEAD"):
                raise UnsupportedTransferCoding(", ".join(fields))
            # Nobody reads its body, nor what follows, since nobody knows where that begins.
            self.headers = [field for field in self.headers if field[0] != "TRANSFER-ENCODING"]
            self.force_close()
        super().set_body_reader()
