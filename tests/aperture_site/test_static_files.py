"""Static files under ASGI."""

from django.contrib.staticfiles import finders
from django.test import AsyncClient


async def test_a_static_file_is_served_whole_with_validators_and_no_warning() -> None:
    path = finders.find("unfold/css/styles.css")
    assert isinstance(path, str)
    answer = await AsyncClient().get("/static/unfold/css/styles.css")
    assert (answer.status_code, answer.headers["content-type"]) == (200, 'text/css; charset="utf-8"')
    with open(path, "rb") as file:  # noqa: ASYNC230, PTH123
        assert answer.content == file.read()
    again = await AsyncClient().get(
        "/static/unfold/css/styles.css", headers={"if-modified-since": answer.headers["last-modified"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_a_part_of_a_file_is_served_and_head_has_no_body() -> None:
    part = await AsyncClient().get("/static/unfold/css/styles.css", headers={"range": "bytes=0-9"})
    assert (part.status_code, len(part.content)) == (206, 10)
    head = await AsyncClient().head("/static/unfold/css/styles.css")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 1000
