"""What is asked of a list, and the page of it that is the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

PAGE_SIZE = 20

Entity = TypeVar("Entity")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which page of a list, from 1, of what, and in which order.

    `search` is part of a name, whatever its case. Without `order_by` a list has its usual
    order; with it, and without `descending`, the least come first.
    """

    page: int = 1
    page_size: int = PAGE_SIZE
    search: str = ""
    order_by: str | None = None
    descending: bool | None = None

    @property
    def offset(self) -> int:
        """How many rows come on earlier pages."""
        return (self.page - 1) * self.page_size

    def is_descending(self) -> bool:
        """Tell whether the greatest comes first, as it does in lists of what is newest."""
        return self.order_by is None if self.descending is None else self.descending

    def page_of(self, data: list[Entity], count: int) -> Page[Entity]:
        """Return the page that was asked for, of `count` rows on all pages."""
        return Page(data, count, self.page, self.page_size)


@dataclass(frozen=True, slots=True)
class Page(Generic[Entity]):
    """A page of a list, and how many there are on all pages."""

    data: list[Entity]
    count: int
    page: int
    page_size: int
