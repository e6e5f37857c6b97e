"""The two commands: what they print, where, and how they end."""

import io
import json
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from catalog.models import Price, Provider

pytestmark = pytest.mark.django_db

HUJSON = """
{ // one provider
  "providers": {"own": {"baseurl": "http://127.0.0.1:9000/v1", "apikey": "${OWN_KEY}", "models": ["m",]}},
}
"""


def run(*words: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command(*words, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OWN_KEY", "sk-own-secret")
    path = tmp_path / "house.hujson"
    path.write_text(HUJSON, encoding="utf-8")
    return path


def test_an_import_prints_what_it_did_and_its_warnings(file: Path) -> None:
    out, err = run("import_config", str(file))
    assert "added provider own" in out
    assert "base_url: http://127.0.0.1:9000/v1" in out
    assert out.endswith("Imported: 4 added.\n")
    assert "all access will be denied" in err
    assert "sk-own-secret" not in out + err
    assert run("import_config", str(file))[0] == "Imported: no difference.\n"


def test_a_check_changes_nothing(file: Path) -> None:
    out, _ = run("import_config", str(file), "--check")
    assert out.endswith("Checked: 4 added; nothing was changed.\n")
    assert not Provider.objects.exists()


@pytest.mark.parametrize("words", [[], ["--check"]])
def test_errors_are_all_printed_and_the_command_fails(file: Path, words: list[str]) -> None:
    file.write_text('{"providers": {"own": {"models": 4}, "two": {"baseurl": 5, "models": []}}}', encoding="utf-8")
    err = io.StringIO()
    with pytest.raises(CommandError, match="3 errors; nothing was changed"):
        call_command("import_config", str(file), *words, stdout=io.StringIO(), stderr=err, no_color=True)
    assert "error: providers.own.models, line 1, column" in err.getvalue()
    assert "error: providers.two.baseurl, line 1, column" in err.getvalue()
    assert not Provider.objects.exists()


def test_an_import_prices_what_the_price_data_knows(file: Path) -> None:
    file.write_text('{"providers": {"openai": {"baseurl": "https://api.openai.com", "models": ["gpt-4.1"]}}}', "utf-8")
    assert "Priced 1 target from the price data." in run("import_config", str(file))[0]
    price = Price.objects.get()
    assert price.target.upstream_id == "gpt-4.1"
    assert price.input > 0
    assert run("import_config", str(file))[0] == "Imported: no difference.\n"
    assert Price.objects.get() == price


def test_a_document_that_cannot_be_read_gives_one_problem(file: Path) -> None:
    file.write_text('{"providers": {"own": {', encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 error; nothing was changed"):
        call_command("import_config", str(file), stdout=out, stderr=err, no_color=True)
    assert err.getvalue().startswith("error: line 1, column 24: This is not JSON: Expecting property name")
    assert (err.getvalue().count("\n"), out.getvalue()) == (1, "")


def test_a_document_comes_from_standard_input_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(HUJSON.encode())))
    assert run("import_config", "-")[0].endswith("Imported: 4 added.\n")


def test_a_file_that_cannot_be_read_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("import_config", str(tmp_path / "absent.json"))


def test_an_export_goes_to_standard_output_or_to_a_file(file: Path, tmp_path: Path) -> None:
    run("import_config", str(file))
    out, _ = run("export_config")
    data = json.loads(out)
    assert data["providers"]["own"]["models"] == ["m"]
    assert "sk-own-secret" not in out
    target = tmp_path / "export.yaml"
    assert run("export_config", "--format", "yaml", "--output", str(target))[0] == ""
    assert yaml.safe_load(target.read_text(encoding="utf-8")) == data
    assert run("import_config", str(target))[0] == "Imported: no difference.\n"
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("export_config", "--output", str(tmp_path))
