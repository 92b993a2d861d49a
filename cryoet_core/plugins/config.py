"""The configuration of a method: one pydantic model is the source of defaults, validation, help and
``config.json``.

A method subclasses ``Config`` and writes each field with ``option``; the field then is an option of
``cryoet run``, a key of ``--config file.toml`` and a line of ``config.json``.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import pydantic
from pydantic.fields import FieldInfo

from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RUN_OPTIONS = (
    "out",
    "preset",
    "config",
    "seed",
    "device",
    "devices",
    "precision",
    "max_memory",
    "threads",
)
RESERVED = frozenset((*RUN_OPTIONS, "as_json", "json", "quiet", "no_report", "debug", "help"))
"""Names of the options that every method has; a method's own must differ."""

C = TypeVar("C", bound="Config")

BOUNDS = (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))


def option(
    default: Any,
    help: str,
    *,
    paper: str | None = None,
    presets: Mapping[str, Any] | None = None,
    advanced: bool = False,
    **constraints: Any,
) -> Any:
    """Declare an option, a field of a ``Config``.

    Parameters
    ----------
    default : Any
        The value where nobody gives one.
    help : str
        One line that says what the option does, and its unit.
    paper : str, optional
        The value that the paper gives, in words.
    presets : mapping, optional
        Values under the presets ``"fast"`` and ``"paper"`` where they differ from ``default``.
    advanced : bool
        Only ``--help-all`` shows the option: few users ever set it.
    **constraints
        pydantic's ``ge``, ``gt``, ``le``, ``lt``, ``pattern``, ``min_length``, ...

    Returns
    -------
    Any
        A field of pydantic.

    Examples
    --------
    >>> class Example(Config):
    ...     classes: int = option(3, "number of classes", ge=2)
    >>> Example().classes
    3
    """
    extra: dict[str, Any] = {"paper": paper, "presets": dict(presets or {}), "advanced": advanced}
    return pydantic.Field(default=default, description=help, json_schema_extra=extra, **constraints)


@dataclass(frozen=True)
class OptionInfo:
    """What is known of one option, ready to be shown."""

    name: str
    flag: str
    type: str
    default: Any
    range: str
    help: str
    paper: str | None
    presets: dict[str, Any]
    advanced: bool = False


class Config(pydantic.BaseModel):
    """Base of every method's configuration: frozen, flat, without unknown keys."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        taken = sorted(RESERVED & set(cls.model_fields))
        if taken:
            raise TypeError(
                f"{cls.__name__}.{taken[0]}: {flag_of(taken[0])} belongs to every run; choose "
                "another name"
            )
        presets: dict[str, dict[str, Any]] = {"fast": {}, "paper": {}}
        for name, info in cls.model_fields.items():
            for preset, value in _extra(info).get("presets", {}).items():
                presets.setdefault(preset, {})[name] = value
        cls.presets = presets

    @classmethod
    def from_layers(
        cls: type[C],
        preset: str,
        file: Mapping[str, Any] | None = None,
        command_line: Mapping[str, Any] | None = None,
    ) -> C:
        """Build the configuration; later layers win: default, preset, file, command line.

        Keys may be written ``learning_rate`` or ``learning-rate``. Raises UserError that names the
        option (or the key of the file), what was found and what is allowed.
        """
        if preset not in cls.presets:
            raise UserError(
                f"`preset` {preset}: this method has the presets {', '.join(cls.presets)}"
            )
        layers = {"the preset": cls.presets[preset], "the file": file or {}, "": command_line or {}}
        values: dict[str, Any] = {}
        origin: dict[str, str] = {}
        for source, layer in layers.items():
            for key, value in layer.items():
                name = key.replace("-", "_")
                values[name] = _split(cls, name, value)
                origin[name] = source
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            raise UserError(cls._explain(error, origin)) from None

    @classmethod
    def from_record(cls: type[C], record: Mapping[str, Any], where: Path) -> C:
        """The configuration that ``where`` (a run's file) recorded. UserError when this version has
        other options.
        """
        try:
            return cls(**record)
        except pydantic.ValidationError as error:
            reason = cls._explain(error, {})
            hint = "install the version of the method that made the run"
            raise UserError(
                f"{where}: does not fit the installed method: {reason}; {hint}"
            ) from None

    @classmethod
    def described(cls) -> list[OptionInfo]:
        """Every option in the order of the class."""
        return [_describe(name, info) for name, info in cls.model_fields.items()]

    @classmethod
    def _explain(cls, error: pydantic.ValidationError, origin: Mapping[str, str]) -> str:
        lines = []
        for problem in error.errors(include_url=False, include_context=False):
            if not problem["loc"]:
                lines.append(problem["msg"].removeprefix("Value error, "))
                continue
            name = str(problem["loc"][0])
            where = f" (in {origin[name]})" if origin.get(name) else ""
            if problem["type"] == "extra_forbidden":
                lines.append(
                    f"`{name}`{where}: no such "
                    f"option{close_names(name, cls.model_fields, '`{}`'.format)}"
                )
                continue
            allowed = _describe(name, cls.model_fields[name]).range
            expected = f"; allowed: {allowed}" if allowed else ""
            lines.append(
                f"`{name}`{where}: got {problem['input']!r}, {_message(problem['msg'])}{expected}"
            )
        return "; ".join(dict.fromkeys(lines))


def flag_of(name: str) -> str:
    """``learning_rate`` -> ``--learning-rate``."""
    return "--" + name.replace("_", "-")


def resolve_preset(preset: str, on_cuda: bool) -> str:
    """``auto`` -> ``paper`` on a CUDA device and ``fast`` elsewhere; other names are left as they
    are.
    """
    return ("paper" if on_cuda else "fast") if preset == "auto" else preset


def is_sequence(annotation: Any) -> bool:
    """Whether a field holds a list or tuple (written with commas on the command line)."""
    return any(get_origin(part) in (list, tuple) for part in _alternatives(annotation))


def is_switch(annotation: Any) -> bool:
    """Whether a field is a plain ``bool`` (``--flag/--no-flag`` on the command line)."""
    return annotation is bool


def type_name(annotation: Any) -> str:
    """``int``, ``float or none``, ``a|b|c``: the words shown for a type in the help."""
    parts = []
    for part in _alternatives(annotation):
        if part is type(None):
            parts.append("none")
        elif get_origin(part) is Literal:
            parts.append("|".join(str(value) for value in get_args(part)))
        elif get_origin(part) in (list, tuple):
            inner = [type_name(a) for a in get_args(part) if a is not Ellipsis]
            parts.append(
                ",".join(inner)
                + (",..." if Ellipsis in get_args(part) or get_origin(part) is list else "")
            )
        else:
            parts.append({"str": "text"}.get(part.__name__, part.__name__))
    return " or ".join(parts)


def words_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _extra(info: FieldInfo) -> dict[str, Any]:
    return info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}


def _describe(name: str, info: FieldInfo) -> OptionInfo:
    extra = _extra(info)
    return OptionInfo(
        name=name,
        flag=flag_of(name),
        type=type_name(info.annotation),
        default=info.default,
        range=_range(info),
        help=info.description or "",
        paper=extra.get("paper"),
        presets=dict(extra.get("presets", {})),
        advanced=bool(extra.get("advanced", False)),
    )


def _range(info: FieldInfo) -> str:
    for part in _alternatives(info.annotation):
        if get_origin(part) is Literal:
            return ", ".join(str(value) for value in get_args(part))
    found = {
        key: getattr(m, key)
        for m in info.metadata
        for key, _ in BOUNDS
        if getattr(m, key, None) is not None
    }
    if "ge" in found and "le" in found:
        return f"{found['ge']} to {found['le']}"
    words = [f"{symbol} {found[key]}" for key, symbol in BOUNDS if key in found]
    return " and ".join(words) or " and ".join(
        f"matching {m.pattern}" for m in info.metadata if hasattr(m, "pattern")
    )


def _split(cls: type[Config], name: str, value: Any) -> Any:
    """Command-line text for a field: commas make a list, ``none`` makes None where the type allows
    it.
    """
    info = cls.model_fields.get(name)
    if info is None or not isinstance(value, str):
        return value
    if type(None) in _alternatives(info.annotation) and value.lower() == "none":
        return None
    return [part.strip() for part in value.split(",")] if is_sequence(info.annotation) else value


def _message(message: str) -> str:
    """pydantic's sentence, without its habits of style."""
    for prefix in ("Value error, ", "Assertion failed, "):
        message = message.removeprefix(prefix)
    return message[:1].lower() + message[1:]


def read_config_file(path: Path | None) -> dict[str, Any]:
    """The options in a TOML file, one ``option = value`` per line; {} for None. UserError when it
    is no such file.
    """
    if path is None:
        return {}
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"`config` {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"`config` {path}: not a TOML file: {error}; expected lines such as learning-rate = "
            "1e-4"
        ) from error
    tables = [key for key, value in found.items() if isinstance(value, dict)]
    if tables:
        raise UserError(
            f"`config` {path}: has a table [{tables[0]}]; expected the method's options at the top "
            "level"
        )
    return found
