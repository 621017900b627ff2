"""Find and make the provider that `--provider FILE[:CLASS]` or `--provider module[:CLASS]` names.

Whatever is wrong with it comes out as a LoaderError of one line, which says what to do next.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import stat
import sys
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

from ..app_proxy import AppProxyProvider
from ..errors import ExitCode, ProviderError
from ..provider import Provider

if TYPE_CHECKING:
    from ..content_filter import FilterProvider

MAX_LISTED = 8
_BASES = "TransparentProxyProvider, AppProxyProvider, FilterDataProvider, FilterPacketProvider or FilterControlProvider"
_FILTERS = "network_extension.content_filter"
_BASE_MODULES = (
    "network_extension.provider",
    "network_extension.app_proxy",
    "network_extension.transparent_proxy",
    _FILTERS,
)
_FILTER_WORK = {
    "FilterDataProvider": ("handle_new_flow", "start_filter"),
    "FilterPacketProvider": ("handle_packet",),
    "FilterControlProvider": ("handle_new_flow", "handle_remediation", "remediation_map", "url_append_string_map"),
}
"""What a filter of each kind must define one of; the first is named to who defines none. (A data provider may do with
settings alone, which `start_filter` applies.)"""

RunnableProvider: TypeAlias = "AppProxyProvider | FilterProvider"


class LoaderError(ProviderError):
    """The provider cannot be had; `exit_code` says of which kind the trouble is."""


def load_provider(spec: str) -> RunnableProvider:
    """An instance of the provider class that `spec` names. Raises LoaderError."""
    kind = load_provider_class(spec)
    try:
        return kind()
    except (Exception, SystemExit) as error:
        raise LoaderError(f"provider {spec}: {kind.__name__}() raised {one_line(error)}") from error


def load_provider_class(spec: str) -> type[RunnableProvider]:
    """The provider class that `spec` names, without making an instance. Raises LoaderError."""
    target, class_name = split_spec(spec)
    module = _import_file(spec, target) if _is_file_spec(target) else _import_module(spec, target)
    kind = _named_class(spec, module, class_name) if class_name else _only_class(spec, module)
    _check_class(spec, kind)
    return kind


def split_spec(spec: str) -> tuple[str, str]:
    """File or module, and the class or ""."""
    target, colon, name = spec.rpartition(":")
    if colon and name.isidentifier() and not os.path.exists(spec):
        return target, name
    return spec, ""


def one_line(error: BaseException) -> str:
    """An exception as one line: type, text, and the last place outside this package that it went through."""
    text = " ".join(str(error).split())[:300]
    name = type(error).__name__
    place = _place(error)
    return f"{name}{': ' if text else ''}{text}{f' ({place})' if place else ''}"


def _place(error: BaseException) -> str:
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((ours, "<")) and os.sep + "asyncio" + os.sep not in frame.filename:
            return f"{os.path.basename(frame.filename)}:{frame.lineno}"
    return ""


def _is_file_spec(target: str) -> bool:
    return target.endswith(".py") or os.sep in target or os.path.isfile(target)


def _check_file(spec: str, path: str) -> None:
    """Say what is wrong with a path that no file can be read from."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.R_OK):
            return
        what = "is a directory" if os.path.isdir(path) else "cannot be read"
    except PermissionError:
        what = "cannot be read"
    except (OSError, ValueError):
        what = "does not exist"
    step = "give the path of a Python file"
    if what == "cannot be read":
        step = f"let user {os.geteuid()} read it and its folders (netext filter: or choose another with --user)"
    raise LoaderError(f"provider {spec}: the file {path} {what}; {step}", exit_code=ExitCode.PROVIDER_NOT_FOUND)


def _import_file(spec: str, path: str) -> ModuleType:
    _check_file(spec, path)
    _make_importable(os.path.dirname(os.path.abspath(path)))
    name = os.path.splitext(os.path.basename(path))[0]
    if name in sys.modules or not name.isidentifier() or name in sys.stdlib_module_names:
        name = f"netext_provider_{abs(hash(os.path.abspath(path))):x}"
    source = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, path))
    assert source is not None and source.loader is not None
    module = importlib.util.module_from_spec(source)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        source.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise _import_error(spec, error) from error
    return module


def _import_module(spec: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise LoaderError(
                f"provider {spec}: no module {name} is installed; install it, or give a file (./NAME.py)",
                exit_code=ExitCode.PROVIDER_NOT_FOUND,
            ) from None
        raise _import_error(spec, error) from error
    except BaseException as error:
        raise _import_error(spec, error) from error


def _import_error(spec: str, error: BaseException) -> LoaderError:
    code = ExitCode.PROVIDER_INVALID
    if isinstance(error, SyntaxError):
        place = f"{os.path.basename(error.filename or spec)}, line {error.lineno}"
        return LoaderError(f"provider {spec}: not Python: {error.msg} ({place})", exit_code=code)
    if isinstance(error, (UnicodeDecodeError, ValueError)) and "null bytes" in str(error):
        return LoaderError(f"provider {spec}: not Python: it has null bytes", exit_code=code)
    if isinstance(error, OSError) and error.filename:
        return LoaderError(f"provider {spec}: {error.filename}: {error.strerror}", exit_code=code)
    if isinstance(error, ModuleNotFoundError):
        text = f"it imports {error.name}, which is not installed; install that beside netext"
        return LoaderError(f"provider {spec}: {text}", exit_code=code)
    return LoaderError(f"provider {spec}: importing it raised {one_line(error)}", exit_code=code)


def _make_importable(directory: str) -> None:
    """Let the provider import its neighbours: after the standard library, so that it cannot hide parts of
    that.
    """
    if directory in sys.path:
        return
    site = [i for i, entry in enumerate(sys.path) if entry.endswith(("site-packages", "dist-packages"))]
    sys.path.insert(site[0] if site else len(sys.path), directory)


def _named_class(spec: str, module: ModuleType, name: str) -> type[RunnableProvider]:
    found = getattr(module, name, None)
    if found is None:
        raise LoaderError(
            f"provider {spec}: no class {name} in it; {_offer(module)}", exit_code=ExitCode.PROVIDER_NOT_FOUND
        )
    if not inspect.isclass(found) or not issubclass(found, Provider):
        raise LoaderError(
            f"provider {spec}: {name} is no provider; derive it from {_BASES}",
            exit_code=ExitCode.PROVIDER_INVALID,
        )
    return found  # type: ignore[return-value]  # _check_class looks at the rest


def _only_class(spec: str, module: ModuleType) -> type[RunnableProvider]:
    found = _provider_classes(module)
    if not found:
        raise LoaderError(
            f"provider {spec}: no provider class in it; {_offer(module)}", exit_code=ExitCode.PROVIDER_INVALID
        )
    if len(found) > 1:
        names = ", ".join(kind.__name__ for kind in found[:MAX_LISTED])
        raise LoaderError(
            f"provider {spec}: several provider classes ({names}); say which: {spec}:{found[0].__name__}",
            exit_code=ExitCode.PROVIDER_INVALID,
        )
    return found[0]


def _check_class(spec: str, kind: type[Provider]) -> None:
    code = ExitCode.PROVIDER_INVALID
    name = kind.__name__
    if kind.__module__ in _BASE_MODULES:
        raise LoaderError(f"provider {spec}: {name} is only a base; derive a class from it", exit_code=code)
    bases = _bases()
    base = next((base for base in bases if issubclass(kind, base)), None)
    if base is None:
        text = f"{name} is not of a kind that takes flows; derive it from {_BASES}"
        raise LoaderError(f"provider {spec}: {text}", exit_code=code)
    if inspect.isabstract(kind):
        missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
        raise LoaderError(f"provider {spec}: {name} is abstract; implement {missing}", exit_code=code)
    if all(getattr(kind, work) is getattr(base, work) for work in bases[base]):
        signature = inspect.signature(getattr(base, bases[base][0]))
        text = f"{name} overrides nothing: define {bases[base][0]}({', '.join(signature.parameters)}) in it"
        raise LoaderError(f"provider {spec}: {text}", exit_code=code)


def _bases() -> dict[type[Provider], tuple[str, ...]]:
    """The bases of what can be run, and what a class must define one of. A filter has brought its base along; for a
    proxy it is not imported, which would take milliseconds."""
    bases: dict[type[Provider], tuple[str, ...]] = {AppProxyProvider: ("handle_new_flow", "handle_new_udp_flow")}
    filters = sys.modules.get(_FILTERS)
    return bases | ({getattr(filters, name): work for name, work in _FILTER_WORK.items()} if filters else {})


def _provider_classes(module: ModuleType) -> list[type[RunnableProvider]]:
    """The public provider classes that a module defines; those that it imports only if it defines none."""
    found = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Provider) and not name.startswith("_")
    ]
    own = [kind for kind in found if kind.__module__ == module.__name__]
    foreign = [kind for kind in found if not kind.__module__.startswith("network_extension.")]
    return list(dict.fromkeys(own or foreign))  # type: ignore[arg-type]


def _offer(module: ModuleType) -> str:
    providers = [kind.__name__ for kind in _provider_classes(module)][:MAX_LISTED]
    if providers:
        return f"provider classes in it: {', '.join(providers)}"
    classes = [name for name, value in vars(module).items() if inspect.isclass(value)][:MAX_LISTED]
    seen = f" (it has: {', '.join(classes)})" if classes else ""
    return f"define a class in it that derives from {_BASES}{seen}"
