"""The rules for scanners that docs/scanners ships, against real keys and what only looks like one."""

import json
import math
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from accounts import keys
from gateway import leaks

SCANNERS = Path(__file__).parents[3] / "docs" / "scanners"
PLUGIN = SCANNERS / "aperture_api_key.py"

AROUND = ["%s", "KEY=%s", 'key: "%s",', "'%s'", "Authorization: Bearer %s\r", "f(%s)", "https://x/?key=%s&a=1", "`%s`"]
NEAR_MISSES = [
    "sg-0a1b2c3d4e5f60718",
    "sg-903004f8",
    "sg-0123456789abcdef0,sg-0fedcba9876543210",
    "sk-" + "aB3" * 12,
    "sg-" + "aB3" * 11 + "aB",
    "sg-" + "aB3" * 13,
    "sg_" + "aB3" * 12,
]


def entropy(text: str) -> float:
    """Return Shannon's entropy in bits for each character, as gitleaks computes it."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def gitleaks() -> dict[str, Any]:
    [rule] = tomllib.loads((SCANNERS / "gitleaks.toml").read_text(encoding="utf-8"))["rules"]
    return dict(rule)


def trufflehog() -> dict[str, Any]:
    [rule] = yaml.safe_load((SCANNERS / "trufflehog.yaml").read_text(encoding="utf-8"))["detectors"]
    return dict(rule)


REGEXES = {"gitleaks": gitleaks()["regex"], "trufflehog": trufflehog()["regex"]["token"]}


@pytest.mark.parametrize("name", REGEXES)
def test_a_rule_finds_a_key_in_any_surroundings(name: str) -> None:
    rule = re.compile(REGEXES[name])
    for around in AROUND:
        key = keys.generate()
        assert [found[1] for found in rule.finditer(around % key)] == [key], around


@pytest.mark.parametrize("name", REGEXES)
@pytest.mark.parametrize("text", NEAR_MISSES)
def test_a_rule_does_not_find_what_only_looks_like_a_key(name: str, text: str) -> None:
    assert re.search(REGEXES[name], text) is None


@pytest.mark.parametrize("name", REGEXES)
def test_a_rule_has_nothing_that_go_s_expressions_lack(name: str) -> None:
    """RE2 has no look-around, no back-references and no possessive or atomic groups."""
    assert not re.search(r"\(\?[=!<>P]|\\[1-9]|[*+?}]\+", REGEXES[name])


def test_no_key_has_too_little_entropy_for_the_rules() -> None:
    lowest = min(entropy(keys.generate()) for _ in range(5000))
    assert lowest > gitleaks()["entropy"] == trufflehog()["entropy"]


def test_the_keywords_are_in_every_key() -> None:
    for keyword in (*gitleaks()["keywords"], *trufflehog()["keywords"]):
        assert keyword in keys.generate().lower()


def test_trufflehog_s_rule_asks_the_verifier_and_reads_its_answers() -> None:
    rule = trufflehog()
    [verify] = rule["verify"]
    assert rule["name"] == "ApertureApiKey"
    assert verify["endpoint"].startswith("https://")
    assert verify["endpoint"].endswith(leaks.TRUFFLEHOG_PATH)
    assert (verify["successRanges"], verify["rotatedRanges"]) == (["200"], ["403"])


def detected(folder: Path) -> dict[str, list[int]]:
    """Return the lines of keys that detect-secrets finds in a folder's files, with the plugin."""
    run = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "-p", str(PLUGIN), "--all-files", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads(run.stdout)["results"]
    kind = "Aperture API Key"
    return {
        name: sorted({found["line_number"] for found in all_found if found["type"] == kind})
        for name, all_found in results.items()
        if any(found["type"] == kind for found in all_found)
    }


def test_detect_secrets_finds_keys_with_the_plugin_and_nothing_else(tmp_path: Path) -> None:
    key = keys.generate()
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    (tmp_path / "settings.py").write_text("\n".join(["# settings", *(around % keys.generate() for around in AROUND)]))
    (tmp_path / "near.txt").write_text("\n".join([*NEAR_MISSES, wrong]))
    assert detected(tmp_path) == {"settings.py": list(range(2, 2 + len(AROUND)))}
