"""The configuration is checked whole, before any work, and never shows a secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import SettingsError
from cls.settings import DEFAULT_FILE, PARITY_LIMITS, REPOSITORY, Settings, load_settings


def load(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Settings:
    file = tmp_path / "configuration.yaml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environment or {})


def problems(
    tmp_path: Path, text: str, environment: Mapping[str, str] | None = None, code: str = "settings.invalid"
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text, environment)
    line = caught.value.line()
    assert caught.value.code == code
    assert str(tmp_path / "configuration.yaml") in line
    assert "\n" not in line
    return line


def test_the_project_s_own_file_is_good_and_starts_at_the_repository() -> None:
    settings = load_settings(None, {})
    assert settings.file == DEFAULT_FILE
    assert settings.data_path == REPOSITORY / "classification_data"
    assert settings.collector_url == "http://127.0.0.1:8200"
    assert settings.static_url == settings.collector_url
    assert settings.people_classes == {"girl": "female", "man": "male"}


def test_installed_everything_starts_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cls.settings.REPOSITORY", tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).data_path == tmp_path / "classification_data"
    (tmp_path / "configuration.yaml").write_text("data_path: bottle")
    (tmp_path / "secrets.yaml").write_text("collector_password: 'p'")
    settings = load_settings(None, {})
    assert (settings.file, settings.data_path) == (tmp_path / "configuration.yaml", tmp_path / "bottle")
    assert settings.collector_password == "p"


def test_relative_paths_start_at_the_file_s_own_folder(tmp_path: Path) -> None:
    assert load(tmp_path, "data_path: bottle").data_path == tmp_path / "bottle"
    assert load(tmp_path, "data_path: /data/bottle").data_path == Path("/data/bottle")
    assert load(tmp_path, "data_path: ~/bottle").data_path == Path.home() / "bottle"


def test_every_key_has_a_default_but_the_data_path(tmp_path: Path) -> None:
    assert load(tmp_path, "data_path: b").pictures_dir == "pictures"
    assert "'data_path'" in problems(tmp_path, "")


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "data_path: b\ncollector_url: http://one:1\n",
        {"CLS_COLLECTOR_URL": "http://two:2/", "CLS_DATA_PATH": "/other", "HOME": "/h", "CLSX": "no"},
    )
    assert settings.collector_url == "http://two:2"
    assert settings.data_path == Path("/other")


def test_people_classes_from_file_and_environment(tmp_path: Path) -> None:
    text = "data_path: b\npeople_classes:\n  woman: female\n"
    assert load(tmp_path, text).people_classes == {"woman": "female"}
    assert load(tmp_path, text, {"CLS_PEOPLE_CLASSES": "girl=f, man = m"}).people_classes == {"girl": "f", "man": "m"}
    assert "CLS_PEOPLE_CLASSES" in problems(tmp_path, text, {"CLS_PEOPLE_CLASSES": "girl"})


def test_the_cache_s_limit_is_a_size(tmp_path: Path) -> None:
    assert load(tmp_path, "data_path: b\n").cache_limit_gb == 50
    assert load(tmp_path, "data_path: b\ncache_limit_gb: 7.5\n").cache_limit_gb == 7.5
    assert load(tmp_path, "data_path: b\n", {"CLS_CACHE_LIMIT_GB": "8"}).cache_limit_gb == 8
    for wrong in ("0", "-1", "much", "true", "", "[1]", ".inf"):
        assert "cache_limit_gb" in problems(tmp_path, f"data_path: b\ncache_limit_gb: {wrong}\n")


def test_parity_limits_keep_their_defaults_where_nothing_is_said(tmp_path: Path) -> None:
    assert load_settings(None, {}).parity_limits == PARITY_LIMITS  # the file says what the code says
    limits = load(tmp_path, "data_path: b\nparity_limits:\n  int8: {f1: 0.01, probability: 1}\n").parity_limits
    assert limits["int8"] == replace(PARITY_LIMITS["int8"], f1=0.01, probability=1)
    assert limits["fp32"] == PARITY_LIMITS["fp32"]
    limits = load(tmp_path, "data_path: b\n", {"CLS_PARITY_LIMITS": "{fp16: {f1: null}}"}).parity_limits
    assert limits["fp16"] == replace(PARITY_LIMITS["fp16"], f1=None)
    for wrong in (
        "5",
        "{int4: {f1: 0.1}}",
        "{int8: 0.1}",
        "{int8: {f2: 0.1}}",
        "{int8: {f1: .nan}}",
        "{int8: {f1: x}}",
    ):
        assert "parity_limits" in problems(tmp_path, f"data_path: b\nparity_limits: {wrong}\n")
    assert "CLS_PARITY_LIMITS" in problems(tmp_path, "data_path: b\n", {"CLS_PARITY_LIMITS": "{"})


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    line = problems(
        tmp_path,
        "picture_dir: x\npictures_dir: 5\nmeta_dir: ../meta\ncollector_url: ftp://x\nmodels_dir:\n"
        "pictures_info_db_url: pictures.sqlite\ncollector_password: abc123\npeople_classes: [girl]\n",
        {"CLS_INFERENCE_ULR": "x"},
    )
    for word in (
        "unknown key 'picture_dir'",
        "'pictures_dir': expected text in quotes, found int",
        "'meta_dir': expected the name of a folder",
        "'collector_url': expected an address",
        "'models_dir'",
        "'pictures_info_db_url': expected a database URL",
        "'collector_password' is a secret",
        "'people_classes': expected pairs",
        "unknown environment variable CLS_INFERENCE_ULR",
        "missing key 'data_path'",
    ):
        assert word in line
    assert "abc123" not in line


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("a: b: c", "settings.not_yaml", "configuration.yaml:1:5: "),
        ("- a\n- b", "settings.not_a_mapping", "found list"),
        ("just text", "settings.not_a_mapping", "found str"),
        ("data_path: !!python/object:os.system x", "settings.not_yaml", "configuration.yaml:1:12: "),
        ("data_path: &a [*a]", "settings.not_yaml", "nested too deeply"),
        ("data_path: ''", "settings.invalid", "'data_path': a value"),
        ("data_path: null", "settings.invalid", "found NoneType"),
        ("data_path: b\ncollector_url: http://h:99999", "settings.invalid", "found 'http://h:99999'"),
        ("data_path: b\npictures_dir: ..", "settings.invalid", "found '..'"),
        ("data_path: b\npictures_dir: /abs", "settings.invalid", "found '/abs'"),
    ],
)
def test_what_cannot_be_used(tmp_path: Path, text: str, code: str, said: str) -> None:
    assert said in problems(tmp_path, text, code=code)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "none.yaml", {})
    assert (caught.value.code, caught.value.where) == ("settings.not_found", str(tmp_path / "none.yaml"))
    assert "--cfg" in (caught.value.hint or "")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path, {})
    assert (caught.value.code, caught.value.where) == ("settings.unreadable", str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"data_path: '\xff'")
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "latin.yaml", {})
    assert (caught.value.code, caught.value.where) == ("settings.unreadable", str(tmp_path / "latin.yaml"))


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    """Masks written over pictures would be lost data."""
    line = problems(tmp_path, "data_path: b\nmasks_dir: pictures\n")
    assert "'masks_dir'" in line
    assert "'pictures_dir'" in line


def test_secrets_come_from_their_file_or_the_environment_and_are_never_shown(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.yaml"
    secrets.write_text("collector_password: 'from file'\nmodel_storage_token: 'token in file'\n")
    settings = load(tmp_path, "data_path: b\n", {"CLS_COLLECTOR_PASSWORD": "from environment"})
    assert settings.collector_password == "from environment"
    assert settings.model_storage_token == "token in file"
    settings = load(tmp_path, "data_path: b\npictures_info_db_url: postgresql://u:dbpass@h/d\n")
    assert settings.collector_password == "from file"
    for shown in (repr(settings), str(settings)):
        assert "from file" not in shown
        assert "token in file" not in shown
        assert "dbpass" not in shown


def test_wrong_secrets_are_told_without_their_value(tmp_path: Path) -> None:
    (tmp_path / "secrets.yaml").write_text("collector_pasword: hidden1\ncollector_password: 123987\n")
    line = problems(tmp_path, "data_path: b\n")
    assert "collector_pasword" in line
    assert "'collector_password'" in line
    assert "hidden1" not in line
    assert "123987" not in line


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.none() | st.integers() | st.text(max_size=8), max_size=4))
def test_any_mapping_is_settings_or_one_error(content: dict[str, object]) -> None:
    import tempfile

    import yaml

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "configuration.yaml"
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        try:
            line, settings = "", load_settings(file, {})
        except SettingsError as error:
            line, settings = error.line(), None
    assert (settings is not None and settings.data_path.is_absolute()) or (line and "\n" not in line)
