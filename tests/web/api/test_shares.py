"""Shares: links that read one pixel's statistics and nothing else, until they are ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Client, unique


def new_share(admin: Client, **values: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    pixel = admin.create_pixel()
    answer = admin.post(f"/api/pixels/{pixel['id']}/shares", {"name": "Share", **values})
    assert answer.status == 200, answer.body
    return pixel, answer.json


def guest_of(admin: Client, share: dict[str, Any]) -> Client:
    token = admin.with_token(None).get(f"/api/share/{share['slug']}").json["token"]
    headers = {"x-umami-share-token": token, "x-umami-share-context": "1"}
    return Client(admin.base, headers=headers)


def test_share_has_the_shape_of_umamis(admin: Client) -> None:
    pixel, share = new_share(admin, parameters={"overview": True})
    assert share["entityId"] == pixel["id"]
    assert share["shareType"] == 3
    assert share["parameters"] == {"overview": True}
    assert len(share["slug"]) == 16
    opened = admin.with_token(None).get(f"/api/share/{share['slug']}").json
    assert opened.pop("token")
    assert opened == {
        "shareId": share["id"],
        "shareType": 3,
        "websiteId": pixel["id"],
        "pixelId": pixel["id"],
        "parameters": {"overview": True},
    }


def test_parameters_that_are_nested_too_deeply_are_refused(admin: Client) -> None:
    path = f"/api/pixels/{admin.create_pixel()['id']}/shares"
    for levels in (20, 900, 950):
        body = b'{"name": "n", "parameters": {"a": %s1%s}}' % (b"[" * levels, b"]" * levels)
        answer = admin("POST", path, body=body, headers={"Content-Type": "application/json"})
        assert answer.code == "bad-request"
    assert admin.get(path).json["count"] == 0


def test_guest_reads_the_pixels_statistics_and_nothing_else(admin: Client) -> None:
    pixel, share = new_share(admin)
    guest = guest_of(admin, share)
    assert guest.get(f"/api/pixels/{pixel['id']}/daterange").status == 200
    assert guest.get(f"/api/websites/{pixel['id']}/active").status == 200
    another = admin.create_pixel()
    assert guest.get(f"/api/pixels/{another['id']}/daterange").status == 404
    assert guest.get(f"/api/pixels/{another['id']}").status == 404
    for path in ("/embed", "/recipients", "/recipients/export", "/shares", "/export"):
        assert guest.get(f"/api/pixels/{pixel['id']}{path}").status == 401


def test_deleted_share_ends_its_link_and_its_tokens(admin: Client) -> None:
    pixel, share = new_share(admin)
    guest = guest_of(admin, share)
    assert admin.delete(f"/api/share/id/{share['id']}").json == {"ok": True}
    assert guest.get(f"/api/pixels/{pixel['id']}/daterange").status == 401
    assert guest.get(f"/api/share/{share['slug']}").status == 404
    assert admin.get(f"/api/pixels/{pixel['id']}/shares").json["count"] == 0


def test_share_goes_with_its_pixel(admin: Client) -> None:
    pixel, share = new_share(admin)
    guest = guest_of(admin, share)
    assert admin.delete(f"/api/pixels/{pixel['id']}").status == 200
    assert guest.get(f"/api/pixels/{pixel['id']}/daterange").status == 401
    assert admin.get(f"/api/share/id/{share['id']}").status == 404


def test_share_is_changed(admin: Client) -> None:
    _, share = new_share(admin)
    slug = unique("chosen")
    changed = {"name": "Other", "slug": slug, "parameters": {"theme": "dark"}}
    answer = admin.post(f"/api/share/id/{share['id']}", changed).json
    assert {key: answer[key] for key in changed} == changed
    assert admin.get(f"/api/share/{share['slug']}").status == 404
    assert admin.get(f"/api/share/{slug}").status == 200
    _, other = new_share(admin)
    taken = admin.post(f"/api/share/id/{other['id']}", {"slug": slug})
    assert (taken.status, taken.code) == (409, "slug-taken")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"slug": "a/b"},
        {"slug": "x" * 101},
        {"slug": "line\n"},
        {"parameters": []},
        {"parameters": {"x": "y" * 4000}},
    ],
)
def test_share_with_a_bad_value_is_refused(admin: Client, wrong: dict[str, Any]) -> None:
    _, share = new_share(admin)
    answer = admin.post(f"/api/share/id/{share['id']}", wrong)
    assert (answer.status, answer.code) == (400, "bad-request")


def test_parameters_hold_any_character(admin: Client) -> None:
    parameters = {"\0": "\ud800", "é": ["😀", {"deep": None}]}
    _, share = new_share(admin, parameters=parameters)
    assert share["parameters"] == parameters
    assert admin.get(f"/api/share/id/{share['id']}").json["parameters"] == parameters


def test_pixel_has_a_hundred_shares_at_most(admin: Client) -> None:
    pixel = admin.create_pixel()
    path = f"/api/pixels/{pixel['id']}/shares"
    statuses = [admin.post(path, {"name": "Share"}).status for _ in range(101)]
    assert statuses == [200] * 100 + [400]


def test_token_of_a_user_is_no_token_of_a_share(admin: Client) -> None:
    pixel, share = new_share(admin)
    token = guest_of(admin, share).headers["x-umami-share-token"]
    path = f"/api/pixels/{pixel['id']}/daterange"
    assert admin.with_token(token).get(path).status == 401
    headers = {"x-umami-share-token": admin.token or "", "x-umami-share-context": "1"}
    assert Client(admin.base, headers=headers).get(path).status == 401


def test_guest_learns_figures_and_not_who_the_recipients_are(admin: Client) -> None:
    pixel, share = new_share(admin)
    guest, path = guest_of(admin, share), f"/api/pixels/{pixel['id']}"
    headers = {"User-Agent": "Outlook-Android/2.0"}
    assert admin.get(f"/p/{pixel['slug']}?r=ada", headers=headers).status == 200
    always = "startAt=0&endAt=4000000000000"
    assert guest.get(f"{path}/stats?{always}").json["pageviews"] == 1
    for reader, named in ((admin, ["ada"]), (guest, [None])):
        events = reader.get(f"{path}/events?{always}").json["data"]
        assert [hit["recipient"] for hit in events] == named
    for question in ("metrics?type=recipient", "values?type=recipient", "stats?recipient=ada"):
        assert admin.get(f"{path}/{question}&{always}").status == 200
        assert guest.get(f"{path}/{question}&{always}").code == "forbidden"
    assert guest.get(f"{path}/export").code == "unauthorized"
