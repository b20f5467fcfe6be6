"""Options: which source wins, what is refused, and what the messages say."""

from __future__ import annotations

import copy
import os
import threading

import pytest

from pysciml import config as exported
from pysciml.config import OPTIONS, Config, available_memory
from pysciml.errors import InvalidInputError, PySciMLError

GOOD = {
    "engine": [("embedded", "embedded"), ("julia", "julia")],
    "progress": [("off", "off"), (True, "on"), (False, "off"), ("yes", "on"), ("auto", "auto")],
    "memory_limit": [("4GiB", 4 * 1024**3), ("80%", 0.8), (0.5, 0.5), ("4e9", 4 * 10**9), (2, 2), ("1", 1.0), (1, 1.0)],
    "single_precision": [("yes", True), (False, False)],
    "julia_exe": [("/usr/bin/julia", "/usr/bin/julia")],
    "julia_threads": [(4, 4), ("4", 4), ("auto", "auto"), ("4,1", "4,1")],
    "julia_handle_signals": [("yes", True), ("no", False), (True, True)],
    "julia_heap_size_hint": [("2G", "2G"), ("50%", "50%")],
    "require_julia": [("1", True), ("0", False), (True, True)],
}
BAD = {
    "engine": ["jullia", 1, None, ["julia"]],
    "progress": ["maybe", None, 3],
    "memory_limit": ["lots", 0, -1, "0%", float("nan"), float("inf"), True, None, "1.2.3", "4 bananas"],
    "julia_exe": ["", 3],
    "julia_threads": [0, -1, "many", True, 1.5],
    "julia_handle_signals": ["perhaps", 2],
    "julia_heap_size_hint": ["big", 3, "G"],
    "require_julia": ["perhaps", None],
}


def cases(table: dict) -> list:
    return [pytest.param(name, case, id=f"{name}-{case!r}") for name, values in table.items() for case in values]


@pytest.fixture
def config(monkeypatch, tmp_path) -> Config:
    """Options of a machine where nothing is set anywhere."""
    for option in OPTIONS.values():
        monkeypatch.delenv(option.env, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Config()


def write(config: Config, text: str) -> None:
    config.path.parent.mkdir(parents=True, exist_ok=True)
    config.path.write_text(text, "utf-8")
    config.reload()


def test_the_package_exports_the_object_and_not_the_module():
    assert isinstance(exported, Config)


def test_every_option_is_an_attribute_with_its_default(config):
    assert {name: getattr(config, name) for name in OPTIONS} == {n: o.default for n, o in OPTIONS.items()}
    assert {s.source for s in config.table()} == {"default"}
    assert set(Config.__annotations__) == set(OPTIONS) <= set(dir(config))


def test_every_example_in_the_table_is_a_value_it_takes():
    assert all(option.parse(option.example) is not None for option in OPTIONS.values())


def test_the_strongest_source_wins(config, monkeypatch):
    write(config, 'engine = "julia"\n')
    assert (config.engine, config.setting("engine").source) == ("julia", f"file {config.path}")
    monkeypatch.setenv("PYSCIML_ENGINE", "embedded")
    assert (config.engine, config.setting("engine").source) == ("embedded", "env PYSCIML_ENGINE")
    config.engine = "auto"
    assert (config.engine, config.setting("engine").source) == ("auto", "code")
    del config.engine
    assert config.engine == "embedded"


def test_an_empty_environment_variable_counts_as_unset(config, monkeypatch):
    monkeypatch.setenv("PYSCIML_ENGINE", "")
    assert config.setting("engine").source == "default"


@pytest.mark.parametrize(("name", "case"), cases(GOOD))
def test_good_values_are_normalised(config, monkeypatch, name, case):
    given, expected = case
    setattr(config, name, given)
    got = getattr(config, name)
    assert got == expected
    assert type(got) is type(expected)
    if isinstance(given, str):
        monkeypatch.setenv(OPTIONS[name].env, given)
        assert getattr(Config(), name) == expected


@pytest.mark.parametrize(("name", "value"), cases(BAD))
def test_bad_values_are_refused_and_change_nothing(config, name, value):
    if value is None and OPTIONS[name].default is None:
        pytest.skip("None is a value of this option")
    with pytest.raises(InvalidInputError) as caught:
        setattr(config, name, value)
    assert f"`{name}`" in caught.value.what
    assert caught.value.expected == OPTIONS[name].expected
    assert config.setting(name).source == "default"


def test_a_misspelt_value_is_answered_with_the_line_to_type_at_its_source(config, monkeypatch):
    with pytest.raises(InvalidInputError, match=r"Fix: pysciml\.config\.engine = 'julia'"):
        config.engine = "jullia"
    monkeypatch.setenv("PYSCIML_ENGINE", "embeded")
    with pytest.raises(InvalidInputError, match="environment variable PYSCIML_ENGINE") as caught:
        _ = config.engine
    assert caught.value.fix == "export PYSCIML_ENGINE=embedded"
    monkeypatch.delenv("PYSCIML_ENGINE")
    write(config, 'engine = "sundials"\n')
    with pytest.raises(InvalidInputError, match="in the config file") as caught:
        _ = config.engine
    assert caught.value.fix == 'engine = "embedded"'


def test_unknown_names_are_refused_with_a_suggestion(config):
    for attempt in (lambda: config.engin, lambda: setattr(config, "engin", "julia"), lambda: delattr(config, "engin")):
        with pytest.raises(InvalidInputError, match="did you mean `engine`"):
            attempt()
    with pytest.raises(PySciMLError, match="lists every option"), config.override(zzz=1):
        pass


def test_it_survives_the_probing_of_notebooks_and_copies(config):
    assert not hasattr(config, "_repr_html_")
    assert not hasattr(config, "shape")
    assert copy.copy(config).engine == "auto"


def test_override_holds_for_the_block_and_for_other_threads(config):
    config.progress = "on"
    seen = []
    with config.override(engine="embedded", progress="off") as same:
        assert same is config
        thread = threading.Thread(target=lambda: seen.append((config.engine, config.progress)))
        thread.start()
        thread.join()
    assert seen == [("embedded", "off")]
    assert (config.engine, config.progress) == ("auto", "on")
    assert config.setting("engine").source == "default"


def test_override_is_undone_by_an_exception_and_refused_as_a_whole(config):
    with pytest.raises(KeyError), config.override(engine="embedded"):
        raise KeyError
    with pytest.raises(InvalidInputError), config.override(engine="embedded", progress="maybe"):
        pass
    assert config.engine == "auto"


def test_the_printed_table_names_every_option_source_and_variable(config, monkeypatch):
    monkeypatch.setenv("PYSCIML_PROGRESS", "off")
    config.julia_threads = 1
    text = repr(config)
    for option in OPTIONS.values():
        assert option.name in text
        assert option.env in text
        assert option.description in text
    lines = {line.split()[0]: line.split() for line in text.splitlines()}
    assert lines["progress"][1:4] == ["off", "env", "PYSCIML_PROGRESS"]
    assert lines["julia_threads"][1:3] == ["1", "code"]
    assert lines["require_julia"][1:3] == ["no", "default"]
    assert text.endswith(f"config file: {config.path} (not there)")


def test_save_keeps_comments_and_other_lines(config):
    write(config, '# mine\nprogress = "off" # quiet\njulia_threads = 2')
    config.save(progress="on", julia_exe="C:\\julia", require_julia=True)
    assert config.path.read_text("utf-8").startswith('# mine\nprogress = "on"\njulia_threads = 2\n')
    assert (config.progress, config.julia_exe, config.julia_threads) == ("on", "C:\\julia", 2)
    assert config.setting("require_julia").source == f"file {config.path}"
    config.save(julia_exe=None)
    assert config.julia_exe is None
    assert [file.name for file in config.path.parent.iterdir()] == ["config.toml"]


def test_save_writes_a_new_file_that_another_process_would_read(config):
    config.save(memory_limit="4GiB")
    assert Config().memory_limit == 4 * 1024**3


def test_save_refuses_what_it_cannot_edit_and_leaves_the_file_alone(config):
    text = 'engine = """\nembedded"""\n'
    write(config, text)
    with pytest.raises(InvalidInputError, match="write by hand: engine = "):
        config.save(engine="julia")
    assert config.path.read_text("utf-8") == text


def test_a_broken_config_file_is_named(config):
    write(config, "engine = julia\n")
    with pytest.raises(InvalidInputError, match="is not TOML") as caught:
        _ = config.engine
    assert str(config.path) in str(caught.value)
    write(config, 'engin = "julia"\n')
    with pytest.raises(InvalidInputError, match="did you mean `engine`"):
        _ = config.progress


def test_julia_is_configured_by_both_or_neither(config, monkeypatch):
    assert config.julia_environment() is None
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "/a/julia")
    with pytest.raises(InvalidInputError, match="go together"):
        config.julia_environment()
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", "/a/project")
    assert config.julia_environment() == ("/a/julia", "/a/project")
    config.julia_exe = "/b/julia"
    with pytest.raises(InvalidInputError, match=r"julia_exe='/b/julia' \(code\)"):
        config.julia_environment()
    config.julia_project = "/b/project"
    assert config.julia_environment() == ("/b/julia", "/b/project")
    with config.override(julia_exe=None, julia_project=None):
        assert config.julia_environment() is None


def test_memory_limit_in_bytes(config):
    total = available_memory()
    assert 2**26 < total < 2**50
    assert config.memory_limit_bytes() == int(0.8 * total)
    config.memory_limit = 10**9
    assert config.memory_limit_bytes() == 10**9


def test_misspelt_environment_variables_are_found(config, monkeypatch):
    for name in [n for n in os.environ if n.startswith("PYSCIML_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYSCIML_ENGIN", "julia")
    monkeypatch.setenv("PYSCIML_PROGRESS", "off")
    monkeypatch.setenv("PYSCIML_ZZZZZZ", "1")
    assert config.unknown_environment() == {"PYSCIML_ENGIN": "PYSCIML_ENGINE", "PYSCIML_ZZZZZZ": None}


@pytest.mark.parametrize(
    ("platform", "variable", "tail"),
    [
        ("win32", "APPDATA", "pysciml"),
        ("darwin", "HOME", "Library/Application Support/pysciml"),
        ("linux", "HOME", ".config/pysciml"),
    ],
)
def test_the_config_file_is_where_the_platform_keeps_such_files(
    config, monkeypatch, tmp_path, platform, variable, tail
):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr("sys.platform", platform)
    assert config.path == tmp_path / tail / "config.toml"
