"""Runs the author's file as the node's bot, and judges how it ended."""

from __future__ import annotations

import asyncio
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import types
from pathlib import Path
from typing import Any, Final, NoReturn

import disnake

from shard_node.bridge import ports_taken
from shard_node.bridge.adopt import Adoption
from shard_node.errors import BotLoadError, ShardNodeError
from shard_node.failure import author_line_of, author_traceback, told
from shard_node.settings import TOKEN_ENV, NodeSettings

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130

_MAY_PASS = (ConnectionError, TimeoutError, asyncio.TimeoutError)
"""Raised before the bot ran, these may be mended by trying again."""


def run(settings: NodeSettings, adoption: Adoption) -> int:
    """Run the target to its end. Returns the exit code; errors are told on stderr."""
    try:
        _run_target(settings, adoption)
    except KeyboardInterrupt:
        return EXIT_OK if adoption.node.stop_asked else EXIT_INTERRUPTED
    except SystemExit as request:
        code = _code_of(request)
        if code and adoption.failure is None and adoption.node.fatal is None:
            return code  # the author's own word
        return _judge(settings, adoption, None)
    except Exception as error:
        return _judge(settings, adoption, error)
    return _judge(settings, adoption, None)


def _judge(settings: NodeSettings, adoption: Adoption, error: Exception | None) -> int:
    node = adoption.node
    if adoption.failure is not None:  # whatever the author's code made of it
        return _tell(adoption.failure, EXIT_CONFIG)
    if node.fatal is not None:
        fatal = ShardNodeError(node.fatal.reason, code="E_BOT_FATAL", hint=node.fatal.hint)
        return _tell(fatal, EXIT_CONFIG)
    if isinstance(error, BotLoadError):
        return _tell(error, EXIT_CONFIG)
    if error is not None:
        return _tell_raised(settings, adoption, error)
    if adoption.hold is None and node.stop_asked is None:
        return _tell(_never_ran(settings, adoption), EXIT_CONFIG)
    return EXIT_OK


def _tell(error: ShardNodeError, code: int) -> int:
    sys.stderr.write(told(error) + "\n")
    return code


def _tell_raised(settings: NodeSettings, adoption: Adoption, error: Exception) -> int:
    sys.stderr.write(author_traceback(error) + "\n")
    taken = ports_taken.told_of(settings, error)
    if taken is not None:
        return _tell(taken, EXIT_FAILED)  # whoever has it may let go
    where = author_line_of(settings.folder, error) or settings.target
    if adoption.hold is not None:
        ended = ShardNodeError(f"{where}: the bot ended with {_brief(error)}", code="E_BOT_ENDED")
        return _tell(ended, EXIT_FAILED)
    may_pass = isinstance(error, _MAY_PASS)
    return _tell(_not_loaded(where, error), EXIT_FAILED if may_pass else EXIT_CONFIG)


def _not_loaded(where: str, error: Exception) -> BotLoadError:
    if isinstance(error, ModuleNotFoundError):
        return BotLoadError(
            f"{where}: there is no module {error.name!r}",
            code="E_BOT_MODULE",
            hint=f"install it for {sys.executable}, with `-m pip install`, or mend the import",
        )
    if isinstance(error, SyntaxError):
        return BotLoadError(
            f"{where}: {error.msg}", code="E_BOT_SYNTAX", hint="mend the line, then start again"
        )
    return BotLoadError(
        f"{where}: {_brief(error)} before the bot ran",
        code="E_BOT_IMPORT",
        hint="the traceback above shows how it came there; mend it, then start again",
    )


def _never_ran(settings: NodeSettings, adoption: Adoption) -> BotLoadError:
    if not adoption.made:
        return BotLoadError(
            f"{settings.target}:1: the file ended and made no bot",
            code="E_BOT_NEVER_RAN",
            hint="is it the right file? A bot ends with bot.run(...)",
        )
    name, where = adoption.made[-1]
    bots = _bots_in(sys.modules["__main__"])
    hint = f"end the file with {bots[0] if len(bots) == 1 else 'bot'}.run(...)"
    if bots:
        names = " or ".join(f"{settings.target.partition(':')[0]}:{bot}" for bot in bots)
        hint += f", or name the object: shardctl start {names}"
    return BotLoadError(f"{where}: this {name} was never run", code="E_BOT_NEVER_RAN", hint=hint)


def _bots_in(module: types.ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, disnake.Client)]


def _brief(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _code_of(request: SystemExit) -> int:
    if request.code is None or isinstance(request.code, int):
        return request.code or EXIT_OK
    sys.stderr.write(f"{request.code}\n")
    return EXIT_FAILED


# --- the target


def _run_target(settings: NodeSettings, adoption: Adoption) -> None:
    source, _, attribute = settings.target.partition(":")
    if not attribute:
        _run_file(_file_of(settings, source))
        return
    module = _import(settings, source)
    if adoption.hold is not None:
        return  # the import ran it already
    found = _attribute(module, attribute, settings)
    if settings.factory:
        asyncio.run(_run_made(found, settings))
    else:
        _checked(found, settings).run(os.environ.get(TOKEN_ENV))


def _file_of(settings: NodeSettings, source: str) -> Path:
    path = settings.folder / source
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in settings.folder.glob("*.py"))[:10])
        raise BotLoadError(
            f"{path}: no such file",
            code="E_BOT_FILE",
            hint=f"the folder holds: {there}" if there else "the folder holds no Python file",
        )
    return path


def _run_file(path: Path) -> None:
    """As ``python main.py`` would: a module ``__main__`` with the file's own names."""
    module = types.ModuleType("__main__")
    module.__dict__.update(
        __file__=str(path),
        __loader__=importlib.machinery.SourceFileLoader("__main__", str(path)),
        __builtins__=__builtins__,
    )
    sys.modules["__main__"] = module
    sys.argv[:] = [str(path)]
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    exec(code, module.__dict__)


def _import(settings: NodeSettings, source: str) -> types.ModuleType:
    if not source.endswith(".py"):
        return importlib.import_module(source)
    path = _file_of(settings, source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _attribute(module: types.ModuleType, attribute: str, settings: NodeSettings) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            _no_attribute(module, attribute, settings)
    return found


def _no_attribute(module: types.ModuleType, attribute: str, settings: NodeSettings) -> NoReturn:
    bots = _bots_in(module)
    hint = f"it has: {', '.join(bots)}" if bots else "it has no bot at its top level"
    where = f"{Path(module.__file__ or settings.target).name}:1"
    raise BotLoadError(f"{where}: no {attribute!r} in it", code="E_BOT_TARGET", hint=hint)


def _checked(found: Any, settings: NodeSettings) -> Any:
    if isinstance(found, disnake.Client):
        return found
    where = _where_defined(found, settings)
    hint = (
        "a function that makes the bot needs --factory"
        if callable(found)
        else "name the bot: shardctl start main:bot"
    )
    kind = type(found).__name__
    raise BotLoadError(f"{where}: {kind} is no bot", code="E_BOT_TARGET", hint=hint)


def _where_defined(found: Any, settings: NodeSettings) -> str:
    code = getattr(inspect.unwrap(found) if callable(found) else found, "__code__", None)
    if code is None:
        return settings.target
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"


async def _run_made(factory: Any, settings: NodeSettings) -> None:
    if not callable(factory):
        raise BotLoadError(
            f"{settings.target}: {type(factory).__name__} cannot be called",
            code="E_BOT_TARGET",
            hint="leave out --factory where the name is the bot itself",
        )
    made = factory()
    bot = _checked(await made if inspect.isawaitable(made) else made, settings)
    try:
        await bot.start(os.environ.get(TOKEN_ENV))
    finally:
        if not bot.is_closed():
            await bot.close()
