"""Lists and pairs as people type them."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError

from accounts import lines


def test_a_list_is_read_from_lines_and_commas_each_word_once() -> None:
    assert lines.parse_list(" a, b\r\n\nb\n c d ,") == ["a", "b", "c d"]


@pytest.mark.parametrize("line", ["name", "=value", "name=", "na me=value", f"name={'v' * 201}"])
def test_what_is_no_label_is_named(line: str) -> None:
    with pytest.raises(ValidationError, match="is not a label"):
        lines.parse_labels([line])


@pytest.mark.parametrize(
    ("text", "network"),
    [("203.0.113.7", "203.0.113.7/32"), ("10.1.2.3/8", "10.0.0.0/8"), ("2001:DB8::/32", "2001:db8::/32")],
)
def test_networks_get_their_usual_spelling(text: str, network: str) -> None:
    assert lines.parse_network(text) == network


def test_a_header_s_value_is_never_part_of_the_error() -> None:
    with pytest.raises(ValidationError) as caught:
        lines.parse_headers(["bad name: secret"])
    assert "secret" not in str(caught.value)


def test_a_header_that_frames_a_request_is_refused() -> None:
    with pytest.raises(ValidationError, match="Content-length is the connection's own"):
        lines.parse_headers(["X-Team: red", "Content-length: 3"])


def test_a_date_means_its_end_and_a_time_itself() -> None:
    assert lines.parse_expiry("2027-01-31").hour == 23
    assert lines.parse_expiry("2027-01-31T10:00:00") == datetime(2027, 1, 31, 10, tzinfo=UTC)
    assert lines.parse_expiry("2027-01-31T10:00:00+02:00") == datetime(2027, 1, 31, 8, tzinfo=UTC)


def test_fields_show_what_they_read_and_know_a_change() -> None:
    field = lines.LabelsField(required=False)
    assert field.clean("project=search\r\nteam=red") == {"project": "search", "team": "red"}
    assert field.prepare_value({"project": "search", "team": "red"}) == "project=search\nteam=red"
    assert not field.has_changed({"project": "search"}, "project=search\r\n")
    assert field.has_changed({"project": "search"}, "project=find")
    with pytest.raises(ValidationError, match="Null"):
        lines.ListField().clean("a\x00b")
