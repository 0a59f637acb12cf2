"""The experiments: each reproduces a figure or a table of the paper, or shows something about Algorithm 1.

    python -m experiments                            this list
    python -m experiments table2                     one, in quick mode: minutes on two cores
    python -m experiments table2 --mode night        a night on two cores
    python -m experiments table2 --mode paper        the authors' settings
    python -m experiments table2 figure7 --jobs 2    several with the same options; what they share is trained once
    python -m experiments table2 --help              its options, and the methods
    python -m experiments report runs/cifar-quick    a folder of results as one page, to be sent to somebody

python -m experiments.table2 is the same as python -m experiments table2.
"""
import difflib
import itertools
import sys

from minigrad import MinigradError
from minigrad.distributed import world

from . import COMMANDS, console, deprecated
from .paper import command
from .training import executors


def main(arguments=None, executor=None):
    """Run the commands that the first arguments name, with the options after them; return the exit status.

    executor: see pool.run_all.
    """
    console.prepare()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    operand, extra = COMMANDS[names[0]].operand if names and names[0] in COMMANDS else "", []
    if operand:
        names, extra = names[:1], names[2:]
    options = arguments[len(names):]
    if not names and options in ([], ["-h"], ["--help"]):
        print(overview())
        return 0
    refusal = _refuse(names) or extra and (f"{names[0]} takes one {operand}, and {extra[0]} is another\n"
                                           f"  help: python -m experiments {names[0]} {operand}")
    if refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 2
    chosen = [COMMANDS[name] for name in dict.fromkeys(names)]
    try:
        if chosen[0].script is None:
            if world().size > 1:
                raise MinigradError(f"{names[0]} runs in one process\n  help: leave out mpiexec")
            return chosen[0].module.main(options)
        with executors.open_executor(executors.asked_for(options)) as found:    # the other ranks of MPI end here
            return command.main([each.script for each in chosen], options, executor or found)
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:                               # while it waits for workers
        return 130


def run_module(module, *names):
    """Run the commands of these names if the module, a file of commands/, is run; import the new one if it is imported.

    module: its __name__.
    """
    if module == "__main__":
        sys.exit(main([*names, *sys.argv[1:]]))
    deprecated.replace(module)


def overview():
    """Return the list of all commands, with what each reproduces and how long it takes."""
    rows = [f"  {each.name:15s}{each.about:57s}{each.quick:27s}{each.night:12s}{each.paper}"
            for each in COMMANDS.values()]
    return "\n".join([__doc__, f"  {'':72s}{'quick mode, two cores':27s}{'night mode':12s}paper mode", *rows])


def _refuse(names):
    """Return a text that says why these commands cannot be run, or None."""
    if not names:
        return "a command must come before the options\n  help: python -m experiments lists the commands"
    for name in names:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            return f"there is no command {name}\n  help: {near[0] if near else 'choose from ' + ', '.join(COMMANDS)}"
    alone = [name for name in names if COMMANDS[name].script is None]
    if alone and len(set(names)) > 1:
        return f"{alone[0]} trains no runs and goes with no other command\n  help: python -m experiments {alone[0]}"
    return None
