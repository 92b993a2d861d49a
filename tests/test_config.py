"""Config: layers, messages that name the option, descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from cryoet_core.plugins.config import Config, option, read_config_file, resolve_preset
from cryoet_core.support.errors import UserError


class Example(Config):
    learning_rate: float = option(
        1e-3, "step size", gt=0, le=1, paper="1e-5", presets={"paper": 1e-5}
    )
    width: int = option(16, "channels", ge=4, le=256, paper="64", presets={"fast": 8, "paper": 64})
    init: Literal["random", "invariants"] = option("random", "where to start")
    clusters: int | None = option(None, "number of classes, none to search", ge=1)
    rates: tuple[float, ...] = option((0.1, 0.2), "two rates")
    flip: bool = option(False, "mirror")


def test_later_layers_win() -> None:
    assert Example.from_layers("fast").width == 8
    assert Example.from_layers("paper").learning_rate == 1e-5
    assert Example.from_layers("paper", {"width": 32}).width == 32
    config = Example.from_layers("paper", {"width": 32, "learning-rate": 0.5}, {"width": "48"})
    assert (config.width, config.learning_rate, config.init) == (48, 0.5, "random")


def test_text_of_the_command_line_becomes_values() -> None:
    given = {"clusters": "5", "rates": "0.5, 1e-2,3", "flip": "true", "init": "invariants"}
    config = Example.from_layers("fast", {}, given)
    assert config.clusters == 5
    assert config.rates == (0.5, 0.01, 3.0)
    assert config.flip is True
    assert Example.from_layers("fast", {"clusters": 5}, {"clusters": "none"}).clusters is None


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"learning_rate": "2"}, ["`learning_rate`", "'2'", "> 0 and <= 1"]),
        ({"width": "2"}, ["`width`", "'2'", "4 to 256"]),
        ({"width": "many"}, ["`width`", "'many'", "integer", "4 to 256"]),
        ({"init": "sideways"}, ["`init`", "'sideways'", "random, invariants"]),
        ({"learning_rate": "nan"}, ["`learning_rate`", "finite"]),
        ({"widht": "3"}, ["`widht`", "no such option", "did you mean `width`?"]),
        ({"width": "2", "learning_rate": "0"}, ["`width`", "`learning_rate`"]),
    ],
)
def test_a_wrong_value_names_the_option(given: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Example.from_layers("fast", {}, given)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_value_of_the_file_says_so() -> None:
    with pytest.raises(UserError, match=r"`width` \(in the file\): got 2"):
        Example.from_layers("fast", {"width": 2})


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(UserError, match="fast, paper"):
        Example.from_layers("quick")


def test_auto_preset_follows_the_device() -> None:
    assert resolve_preset("auto", on_cuda=False) == "fast"
    assert resolve_preset("auto", on_cuda=True) == "paper"
    assert resolve_preset("paper", on_cuda=False) == "paper"


def test_described_tells_everything() -> None:
    options = {info.name: info for info in Example.described()}
    assert list(options) == ["learning_rate", "width", "init", "clusters", "rates", "flip"]
    width = options["width"]
    assert (width.flag, width.type, width.default, width.range) == (
        "--width",
        "int",
        16,
        "4 to 256",
    )
    assert (width.help, width.paper, width.presets) == ("channels", "64", {"fast": 8, "paper": 64})
    assert options["init"].type == "random|invariants"
    assert options["clusters"].type == "int or none"
    assert options["rates"].type == "float,..."


def test_config_is_frozen_and_round_trips() -> None:
    config = Example.from_layers("paper")
    with pytest.raises(ValueError, match="frozen"):
        config.width = 4  # type: ignore[misc]
    assert Example.model_validate_json(config.model_dump_json()) == config


def test_an_option_of_every_run_cannot_be_a_method_s() -> None:
    with pytest.raises(TypeError, match="--seed belongs to every run"):

        class Clash(Config):
            seed: int = option(0, "a seed")


def test_a_default_out_of_range_is_refused() -> None:
    class Bad(Config):
        width: int = option(2, "channels", ge=4)

    with pytest.raises(UserError, match="`width`"):
        Bad.from_layers("fast")


def test_config_file(tmp_path: Path) -> None:
    good = tmp_path / "good.toml"
    good.write_text("learning-rate = 0.5\nrates = [1, 2]\n")
    assert Example.from_layers("fast", read_config_file(good)).rates == (1.0, 2.0)
    assert read_config_file(None) == {}
    for name, text, message in [
        ("bad.toml", "learning-rate 0.5", "not a TOML file"),
        ("table.toml", "[disca]\nwidth = 3", r"\[disca\]"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=message):
            read_config_file(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        read_config_file(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="cannot be read"):
        read_config_file(tmp_path)
