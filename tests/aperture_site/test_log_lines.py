"""No line of the log holds a key, whatever brought it there."""

import logging

import pytest

from accounts import keys
from aperture_site.log_lines import Masked
from gateway.client_secrets import ClientSecret, seal

KEY = keys.generate()
SECRET = seal(ClientSecret(b"d" * 32, 1, b"{}", ""))


@pytest.mark.parametrize("secret", [KEY, SECRET], ids=["key", "client secret"])
def test_a_key_is_masked_in_the_message_and_in_the_traceback(secret: str) -> None:
    try:
        raise ValueError(f"what is {secret}?")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "at /%s/", (secret,), (type(error), error, None))
    line = Masked("%(message)s").format(record)
    assert secret[5:-4] not in line
    assert line.startswith(f"at /{secret[:5]}…") and "what is " in line


def test_other_lines_stay_as_they_are() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "sg-short ek_short %s", (keys.mask(KEY),), None)
    assert Masked("%(message)s").format(record) == f"sg-short ek_short {keys.mask(KEY)}"
