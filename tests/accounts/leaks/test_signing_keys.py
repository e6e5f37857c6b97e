"""The copy of GitHub's public keys: how often they are fetched, and what serves while they cannot be."""

import json
import threading

import pytest

from accounts.leaks.signing_keys import (
    FAILURE_PAUSE_S,
    FRESH_S,
    KEPT_S,
    UNKNOWN_PAUSE_S,
    Listing,
    NotFetched,
    SigningKeys,
    Unavailable,
)
from tests.accounts.leaks.scenery import Signer

FIRST, SECOND = Signer("1" * 64), Signer("2" * 64)


class GitHub:
    """A listing that changes, fails and counts, and a clock."""

    def __init__(self, *signers: Signer) -> None:
        self.signers = list(signers)
        self.fetches: list[str] = []
        self.away = False
        self.now_s = 1000.0
        self.keys = SigningKeys(self.fetch, lambda: self.now_s)

    def fetch(self, etag: str) -> Listing:
        self.fetches.append(etag)
        if self.away:
            raise NotFetched("nobody answers")
        body = json.dumps({"public_keys": [signer.listed for signer in self.signers]}).encode()
        current = "-".join(signer.identifier[0] for signer in self.signers)
        return Listing(None if etag == current else body, current)

    def knows(self, signer: Signer) -> bool:
        return self.keys.find(signer.identifier) is not None


def test_keys_are_fetched_once_while_they_are_fresh() -> None:
    github = GitHub(FIRST, SECOND)
    assert all(github.knows(signer) for signer in (FIRST, SECOND) for _ in range(50))
    assert github.fetches == [""]


def test_an_identifier_in_another_case_is_the_same() -> None:
    signer = Signer("ab" * 32)
    github = GitHub(signer)
    assert github.keys.find("AB" * 32) is not None


def test_old_keys_are_refreshed_and_a_listing_that_did_not_change_is_not_sent_again() -> None:
    github = GitHub(FIRST)
    assert github.knows(FIRST)
    github.now_s += FRESH_S
    assert github.knows(FIRST)
    assert github.knows(FIRST)
    assert github.fetches == ["", "1"]


def test_a_new_key_is_found_by_its_first_use() -> None:
    github = GitHub(FIRST)
    assert github.knows(FIRST)
    github.now_s += UNKNOWN_PAUSE_S
    github.signers = [SECOND]
    assert github.knows(SECOND)
    assert not github.knows(FIRST)


def test_a_storm_of_unknown_identifiers_causes_one_fetch() -> None:
    github = GitHub(FIRST)
    for number in range(1000):
        assert github.keys.find(f"{number:064x}") is None
        github.now_s += UNKNOWN_PAUSE_S / 1001
    assert len(github.fetches) == 1


def test_a_storm_while_github_is_away_causes_one_fetch_a_minute() -> None:
    github = GitHub(FIRST)
    github.away = True
    for number in range(100):
        with pytest.raises(Unavailable):
            github.keys.find(f"{number:064x}")
        github.now_s += FAILURE_PAUSE_S / 50
    assert len(github.fetches) == 2


def test_known_keys_serve_while_github_is_away_but_not_for_ever() -> None:
    github = GitHub(FIRST)
    assert github.knows(FIRST)
    github.away = True
    github.now_s += FRESH_S
    assert github.knows(FIRST)
    github.now_s += KEPT_S
    with pytest.raises(Unavailable):
        github.knows(FIRST)
    github.away = False
    github.now_s += FAILURE_PAUSE_S
    assert github.knows(FIRST)


def test_many_at_once_wait_for_one_fetch() -> None:
    github = GitHub(FIRST)
    arrived, released = threading.Event(), threading.Event()
    fetch = github.fetch

    def slow(etag: str) -> Listing:
        arrived.set()
        assert released.wait(5)
        return fetch(etag)

    keys = SigningKeys(slow, lambda: 0.0)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(keys.find(FIRST.identifier) is not None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert arrived.wait(5)
    released.set()
    for thread in threads:
        thread.join(5)
    assert found == [True] * 8
    assert github.fetches == [""]
