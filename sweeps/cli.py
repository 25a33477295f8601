"""The console script: each command is a Hydra application over conf/. Heavy packages load late."""

import gc
import importlib
import os
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import partial
from io import StringIO
from typing import Any, NoReturn

from sweeps.commands.streams import guard_streams
from sweeps.errors import hide_passwords
from sweeps.study.interruption import Interruption
from sweeps.tracking.quiet import bound_waits, leave_errors_to_us, quiet_mlflow

HELP = """\
makemore: hyperparameter sweeps for small character-level language models

  makemore train [overrides]        one run, logged
  makemore sweep [overrides]        a study (the same as makemore train --multirun)
  makemore studies [overrides]      the studies that are recorded here, the newest first
  makemore stop study.name=S        the running workers of a study end, wherever they run
  makemore compare [overrides]      the runs of a study, best dev loss first
  makemore ladder [overrides]       from guessing to a sweep's winner: how much each step helps
  makemore sample [overrides]       new words from a study's winner, or from a run
  makemore final-test study.name=S  the one look at the test split, for a study's winner
  makemore looks [overrides]        the looks that were taken, with their records verified
  makemore lr-find [overrides]      the learning-rate range test, with its picture
  makemore ui [overrides]           the MLflow UI on the configured records
  makemore dashboard [overrides]    optuna-dashboard on the configured studies

Overrides are Hydra's: makemore train model.block_size=5 schedule=one_cycle schedule.lr=0.01
What the keys of a command mean, with their defaults: makemore COMMAND --help
Shell completion: eval "$(makemore -sc install=bash)"
"""

_TASKS = {  # the function of each command: it takes the composed config and returns the text to print
    "train": "sweeps.commands.train.train",
    "studies": "sweeps.commands.studies.list_studies",
    "stop": "sweeps.commands.stop.stop",
    "compare": "sweeps.commands.compare.compare",
    "ladder": "sweeps.commands.ladder.ladder",
    "sample": "sweeps.commands.sample.sample",
    "final-test": "sweeps.look.final_test.final_test",
    "looks": "sweeps.look.audit.list_looks",
    "lr-find": "sweeps.commands.lr_find.lr_find",
    "ui": "sweeps.commands.ui.serve_ui",
    "dashboard": "sweeps.commands.ui.serve_dashboard",
}
COMMANDS = ("train", "sweep", *list(_TASKS)[1:])
_PLAIN_WORD = re.compile(r"[\w/.@+~-]+=[\w/.:-]*|-.*")
DONE, FAILED, WRONG_REQUEST, SPENT, INTERRUPTED = 0, 1, 2, 3, 130


_interruption = Interruption()


def main() -> None:
    """Run the command line and exit with its code."""
    _interruption.install()
    outlet = guard_streams()
    quiet_mlflow()
    bound_waits()
    leave_errors_to_us()
    try:
        with _interruption.allowed():
            code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _interrupted()
    if _interruption.times and code != INTERRUPTED:  # something on the way has swallowed what it raised
        code = _interrupted()
    sys.stdout.flush()
    if outlet is not None and outlet.is_full and code == DONE:
        print(f"makemore: standard output could not be written: {outlet.error}", file=sys.stderr)
        code = FAILED
    if "sweeps.databases" in sys.modules:
        sys.modules["sweeps.databases"].close_databases()
    gc.freeze()  # skips the last garbage collection, which would take a second
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="", file=sys.stdout if arguments else sys.stderr)
        return DONE if arguments else WRONG_REQUEST
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"makemore-sweeps {version('makemore-sweeps')}")
        return DONE
    if arguments[0] in ("-sc", "--shell-completion"):
        arguments = _completed_command(arguments)
    command = arguments[0]
    if command not in COMMANDS:
        return _refuse(f"there is no command {command}; it must be {', '.join(COMMANDS[:-1])} or {COMMANDS[-1]}")
    return _report_errors(command, lambda: _run_hydra(command, arguments[1:]))


def _run_hydra(command: str, arguments: list[str]) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from sweeps.config.files import conf_dir
    from sweeps.config.names import check_groups, name_own_classes

    options = _parse_options(command, arguments)
    check_groups(arguments)
    asked = "sweep" if options.multirun else command
    if options.help:  # our own, of the composed config, in place of Hydra's
        arguments = [word for word in arguments if word not in ("--help", "-h", "--multirun", "-m")]
    explains = options.cfg or options.info or options.help or options.hydra_help or options.shell_completion
    if command == "sweep":  # Hydra refuses --multirun together with an option that only explains
        command, arguments = "train", arguments if explains or options.multirun else ["--multirun", *arguments]
    config_name = "config" if command == "train" else command.replace("-", "_")
    sys.argv = [sys.argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and this module prints them
    raised: list[Exception] = []
    module, _, function = _TASKS[command].rpartition(".")
    if not explains:
        _import(module)

    def task(cfg: Any) -> None:
        try:
            name_own_classes(cfg, HydraConfig.get().runtime.choices)
            action = partial(_explain, asked, config_name) if options.help else getattr(sys.modules[module], function)
            if text := action(cfg):
                print(text)
        except Exception as error:
            raised.append(error)  # if Hydra saw the error, it would print a line of its own

    explained = StringIO()
    try:
        with redirect_stdout(explained) if explains else nullcontext():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(task)()
    finally:
        print(hide_passwords(explained.getvalue()), end="")
    if raised:
        raise raised[0]


def _explain(command: str, config_name: str, cfg: Any) -> str:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    from sweeps.config.explain import explain

    return explain(command, config_name, cfg, HydraConfig.get().runtime.choices, GlobalHydra.instance().config_loader())


def _import(module: str) -> None:
    """Import a command's module.

    Without looking for garbage: imports leave none, and the search would take a second. And in one piece: many modules
    do not survive being interrupted halfway, or swallow it.
    """
    gc.disable()
    try:
        with _interruption.held_back():
            importlib.import_module(module)
            if module == _TASKS["train"].rpartition(".")[0]:  # with --multirun it is a study
                importlib.import_module("sweeps.study.study")
    finally:
        gc.freeze()
        gc.enable()
    _interruption.check()
    if "sweeps.trials.storage" in sys.modules:
        sys.modules["sweeps.trials.storage"].quiet_optuna()


def _parse_options(command: str, arguments: list[str]) -> Any:
    """Hydra's options, parsed before Hydra does, so that a wrong option is refused in one line."""
    from hydra._internal.utils import get_args_parser

    from sweeps.errors import RequestError

    def refuse(message: str) -> NoReturn:
        raise RequestError(f"{message}; options stand before or behind all overrides: see makemore {command} --help")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    if options.multirun and command not in ("train", "sweep"):
        raise RequestError(f"makemore {command} has no --multirun; only train has (makemore sweep)")
    return options


def _report_errors(command: str, action: Callable[[], None]) -> int:
    """The exit code of an action, after printing what went wrong, if anything did, in one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from sweeps.config.messages import one_line
    from sweeps.errors import ChainBroken, RequestError, StudyStopped, TestSplitAlreadyUsed

    try:
        action()
    except TestSplitAlreadyUsed:
        print("makemore: this look was taken before; the test split was not read again", file=sys.stderr)
        return SPENT
    except ChainBroken as broken:
        print(broken)
        return FAILED
    except RequestError as error:
        return _refuse(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(one_line(error))
    except StudyStopped as stopped:
        print(f"makemore: {stopped}; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except KeyboardInterrupt:
        return _interrupted(command)
    except SystemExit as error:  # some of Hydra's options end this way, as --version does
        return error.code if isinstance(error.code, int) else FAILED
    except Exception as error:
        if _interruption.times:  # the interruption was raised where another error came of it
            return _interrupted(command)
        if os.environ.get("MAKEMORE_TRACEBACK"):
            raise
        kind = "" if type(error).__module__.startswith(("makemore.", "sweeps.")) else f"{type(error).__name__}: "
        if _raised_by_hydra(error):  # while Hydra composed the config
            return _refuse(f"{kind}{one_line(error)}")
        print(f"makemore: {kind}{one_line(error)} (MAKEMORE_TRACEBACK=1 shows where)", file=sys.stderr)
        return FAILED
    return DONE


def _raised_by_hydra(error: Exception) -> bool:
    traceback = error.__traceback__
    while traceback and traceback.tb_next:
        traceback = traceback.tb_next
    module = traceback.tb_frame.f_globals.get("__name__", "") if traceback else ""
    return str(module).startswith(("hydra.", "omegaconf."))


def _interrupted(command: str = "") -> int:
    print(
        "makemore: interrupted" + ("; the same command goes on" if command in ("sweep", "ladder") else ""),
        file=sys.stderr,
    )
    return INTERRUPTED


def _refuse(message: str) -> int:
    print(f"makemore: {hide_passwords(message)}", file=sys.stderr)
    return WRONG_REQUEST


def _completed_command(arguments: list[str]) -> list[str]:
    """The arguments with which Hydra completes the line that is being typed, beginning with the command."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if len(words) > 1 and words[1] in COMMANDS and (len(words) > 2 or line.endswith(" ")):
        # Of the words that are complete, only a plain choice of a group changes what can follow; Hydra reads the
        # line with quotes and all, and gives up at sweep words.
        *before, last = [*words[2:], *([""] if line.endswith(" ") else [])]
        os.environ["COMP_LINE"] = " ".join([words[0], *filter(_PLAIN_WORD.fullmatch, before), last])
        return [words[1], *arguments]
    if "query=bash" in arguments:
        print(" ".join(COMMANDS))
        sys.exit(DONE)
    return ["train", *arguments]


if __name__ == "__main__":
    main()
