"""Find plugins, load one, and say what is wrong with one.

A plugin is a distribution with an entry point in the group ``cryoet``: its name is the method's
name, its value a module with the hooks of ``hookspecs.py``. Finding reads metadata only; a method
is imported when it is used. What is wrong with one plugin is said of that plugin and harms no
other.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

import pluggy
from packaging.requirements import Requirement

from cryoet_core import PROJECT, __version__
from cryoet_core.support.errors import UserError
from cryoet_core.support.names import close_names

if TYPE_CHECKING:
    from cryoet_core.plugins.interfaces import Trainer

Status = Literal["found", "ok", "broken", "duplicate"]


@dataclass(frozen=True)
class PluginInfo:
    """One entry point. ``found``: not imported yet. ``ok``: imported and sound. Otherwise
    ``reason`` says why not.
    """

    name: str
    distribution: str
    version: str
    module: str
    summary: str = ""
    status: Status = "found"
    reason: str = ""
    trainer: type[Trainer] | None = None
    encoders: tuple[str, ...] = ()


_printing: dict[str, str] = {}
"""What modules have printed when they were imported: a second import prints nothing."""


class _Broken(Exception):
    """Why a plugin cannot be used, in one line."""


def discover() -> list[PluginInfo]:
    """Every installed plugin, by name, from metadata alone. Two of the same name are both marked
    ``duplicate``.
    """
    found = sorted(
        (_from_entry_point(entry) for entry in entry_points(group=PROJECT)),
        key=lambda p: (p.name, p.module),
    )
    return [_mark_duplicate(info, found) for info in found]


def load_trainer(name: str) -> type[Trainer]:
    """The trainer class of a method. Raises UserError: no such method, broken plugin, or two
    plugins of that name.
    """
    info = _inspect(_find(name))
    if info.status != "ok":
        raise UserError(f"method {name!r} cannot be used: {info.reason}")
    if info.trainer is None:
        raise UserError(
            f"{name!r} ({info.distribution}) gives encoders but no method to run: "
            f"{', '.join(info.encoders)}"
        )
    return info.trainer


def load_encoder(name: str) -> Callable[..., Any]:
    """The factory of the encoder ``plugin.name``. Imports that plugin only. Raises UserError as
    ``load_trainer``.
    """
    plugin, dot, encoder = name.partition(".")
    if not dot or not encoder:
        raise UserError(f"encoder {name!r}: expected plugin.name, for example cssl.rb3d")
    info = _find(plugin)
    try:
        factories = _encoders(_hooks(info))
    except _Broken as error:
        raise UserError(f"encoder {name!r} cannot be used: {error}") from error.__cause__
    if encoder not in factories:
        raise UserError(
            f"plugin {plugin!r} has no encoder {encoder!r}{close_names(encoder, factories)}"
        )
    return factories[encoder]


def encoder_names(plugin: str) -> tuple[str, ...]:
    """The names of the encoders that a plugin offers.

    Parameters
    ----------
    plugin : str
        The name of its entry point.

    Returns
    -------
    tuple of str
        Names such as ``rb3d``; ``load_encoder("plugin.rb3d")`` gives the factory.

    Raises
    ------
    UserError
        No such plugin, or one that cannot be used.
    """
    info = _inspect(_find(plugin))
    if info.status != "ok":
        raise UserError(f"plugin {plugin!r} cannot be used: {info.reason}")
    return info.encoders


def inspect_all() -> list[PluginInfo]:
    """Import every plugin, each guarded, and say what it is or what is wrong with it."""
    return [_inspect(info) for info in discover()]


def _from_entry_point(entry: EntryPoint) -> PluginInfo:
    dist = entry.dist
    if dist is None:
        return PluginInfo(entry.name, "unknown", "unknown", entry.value)
    facts = dist.metadata
    name, version = facts["Name"] or "unknown", facts["Version"] or "unknown"
    summary = str(facts.json.get("summary", ""))
    return PluginInfo(entry.name, name, version, entry.value, summary=summary)


def _mark_duplicate(info: PluginInfo, found: list[PluginInfo]) -> PluginInfo:
    same = [other for other in found if other.name == info.name]
    if len(same) == 1:
        return info
    owners = ", ".join(f"{other.distribution} {other.version} ({other.module})" for other in same)
    reason = (
        f"{len(same)} installed plugins have the name {info.name!r}: {owners}; uninstall all "
        "but one"
    )
    return replace(info, status="duplicate", reason=reason)


def _find(name: str) -> PluginInfo:
    found = discover()
    for info in found:
        if info.name == name:
            if info.status == "duplicate":
                raise UserError(f"method {name!r} cannot be used: {info.reason}")
            return info
    hint = close_names(name, (info.name for info in found)) or "; no plugin is installed"
    raise UserError(f"no method {name!r}{hint} (cryoet methods lists them)")


def _inspect(info: PluginInfo) -> PluginInfo:
    """Import the plugin and check it; never raises."""
    if info.status == "duplicate":
        return info
    try:
        hooks = _hooks(info)
        trainer = _trainer(info, hooks)
        encoders = tuple(_encoders(hooks))
        if trainer is None and not encoders:
            raise _Broken(f"its module {info.module} returns neither a trainer nor an encoder")
        return replace(info, status="ok", trainer=trainer, encoders=encoders)
    except _Broken as error:
        return replace(
            info, status="broken", reason=f"{error} [{info.distribution} {info.version}]"
        )


def _hooks(info: PluginInfo) -> pluggy.HookRelay:
    """Import the plugin's module and check its hooks against the specifications."""
    from cryoet_core.plugins import hookspecs

    _refuse_other_core(info)
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            module = importlib.import_module(info.module)
        manager.register(module, name=info.name)
        manager.check_pending()
    except KeyboardInterrupt:
        raise
    except pluggy.PluginValidationError as error:
        known = ", ".join(name for name in vars(hookspecs) if name.startswith(f"{PROJECT}_"))
        raise _Broken(f"{_one_line(error)} (the hooks are {known})") from error
    except BaseException as error:  # a plugin may raise anything on import, SystemExit included
        raise _Broken(
            f"importing {info.module} failed: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if said := " ".join(printed.getvalue().split())[:60]:
        _printing[info.module] = said
    if said := _printing.get(info.module, ""):
        raise _Broken(
            f"importing {info.module} prints to standard output ({said!r}); remove the print, "
            "which would spoil what commands print for other programs"
        )
    _refuse_unmarked(info, module)
    return manager.hook


def _refuse_other_core(info: PluginInfo) -> None:
    """Refuse a plugin whose distribution asks for another version of the core."""
    try:
        requires = metadata.requires(info.distribution) or []
    except metadata.PackageNotFoundError:
        return
    for text in requires:
        wanted = Requirement(text)
        if wanted.name.lower() != PROJECT or (wanted.marker and not wanted.marker.evaluate()):
            continue
        if not wanted.specifier.contains(__version__, prereleases=True):
            raise _Broken(
                f"it needs {PROJECT}{wanted.specifier}, but this is {__version__}; install "
                "releases that fit each other"
            )


def _refuse_unmarked(info: PluginInfo, module: ModuleType) -> None:
    """Refuse a function that has the name of a hook and not the mark of one."""
    for name in ("cryoet_trainers", "cryoet_encoders"):
        function = vars(module).get(name)
        if callable(function) and not hasattr(function, f"{PROJECT}_impl"):
            raise _Broken(
                f"its function {name} is not marked; write @hookimpl above it "
                "(from cryoet_core import hookimpl)"
            )


def _call(hook: pluggy.HookCaller) -> list[Any]:
    try:
        results: list[Any] = hook()
        return results
    except Exception as error:
        raise _Broken(
            f"its hook {hook.name} raised {type(error).__name__}: {_one_line(error)}"
        ) from error


def _encoders(hooks: pluggy.HookRelay) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for result in _call(hooks.cryoet_encoders):
        if not isinstance(result, dict):
            raise _Broken(
                f"its hook cryoet_encoders returned {type(result).__name__}, expected a dict of "
                "factories"
            )
        found.update(result)
    return found


def _trainer(info: PluginInfo, hooks: pluggy.HookRelay) -> type[Trainer] | None:
    """The class whose ``name`` is the entry point's; None when the plugin has no trainer at all."""
    from cryoet_core.plugins.config import RESERVED
    from cryoet_core.plugins.interfaces import Trainer

    results = _call(hooks.cryoet_trainers)
    if not all(isinstance(result, (list, tuple)) for result in results):
        raise _Broken("its hook cryoet_trainers must return a list of Trainer classes")
    classes = [item for result in results for item in result]
    for item in classes:
        if not (isinstance(item, type) and issubclass(item, Trainer)):
            raise _Broken(
                f"its hook cryoet_trainers returned {item!r}, expected subclasses of Trainer"
            )
        missing = [
            part
            for part in ("name", "summary", "task", "inputs", "Config")
            if not hasattr(item, part)
        ]
        if missing:
            raise _Broken(f"its trainer {item.__name__} does not define {', '.join(missing)}")
        _refuse_wrong_parts(item)
        clash = sorted(set(item.inputs) & (RESERVED | set(item.Config.model_fields)))
        if clash:
            raise _Broken(f"its input {clash[0]!r} has the name of an option; choose another name")
    if not classes:
        return None
    for item in classes:
        if item.name == info.name:
            chosen: type[Trainer] = item
            return chosen
    names = ", ".join(repr(item.name) for item in classes)
    raise _Broken(
        f"its entry point is {info.name!r} but its trainer is named {names}; both names must be "
        "equal"
    )


def _refuse_wrong_parts(item: type[Trainer]) -> None:
    """Refuse a trainer whose Config, task or constructor is none."""
    from cryoet_core.plugins.config import Config
    from cryoet_core.plugins.interfaces import Task

    if not (isinstance(item.Config, type) and issubclass(item.Config, Config)):
        raise _Broken(
            f"the Config of its trainer {item.__name__} is {item.Config!r}, expected a subclass of "
            "cryoet_core.plugins.config.Config"
        )
    if item.task not in get_args(Task):
        raise _Broken(
            f"the task of its trainer {item.__name__} is {item.task!r}, expected one of "
            f"{', '.join(get_args(Task))}"
        )
    try:
        item(item.Config())
    except Exception as error:
        raise _Broken(
            f"its trainer {item.__name__} cannot be made with default options: "
            f"{type(error).__name__}: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
