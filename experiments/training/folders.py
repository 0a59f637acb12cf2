"""The folder of an experiment, which one process at a time may write, and the records of runs in it."""
import contextlib
import json
import math
import os
import re
import shutil
import tempfile

import filelock

from minigrad import FileError, MinigradError, tree


def parse_json(text):
    """Return the value of a JSON text; raise ValueError for invalid JSON, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_lines(lines):
    """Raise ValueError unless these are the lines of a record: dicts of finite numbers, with increasing steps."""
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is not a dict")
    steps = [line.get("step") for line in lines]
    if not all(type(step) is int and step > 0 for step in steps) or sorted({*steps}) != steps:
        raise ValueError("the steps of its lines are not increasing integers")
    if not all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float)):
        raise ValueError("a number in its lines is not finite")


def read_record(path, check=check_lines):
    """Return the lines of a record, without a truncated last one; raise FileError for anything else invalid.

    check: raises ValueError unless its argument is a list of valid lines.
    """
    try:
        *whole, _ = path.read_bytes().split(b"\n")
        lines = [parse_json(line) for line in whole]
        check(lines)
        return lines
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not a record of a run ({error})\n  help: move it away; --resume then writes it again "
                        "from the checkpoint") from error


def prepare_folder(folder, settings, resume, megabytes, grows=False):
    """Prepare a folder for results, before any training; return a context that holds its lock, see lock_folder.

    Args:
        folder: the path.
        settings: a dict that identifies the experiment, saved as settings.json.
        resume: whether the folder may hold results of the same settings.
        megabytes: the space that must be free.
        grows: whether more "steps" than in settings.json also count as the same settings.

    Raises MinigradError if the folder holds results of other settings, or of the same without `resume`, or if another
    process is writing there; FileError if it cannot be written or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_folder(folder, megabytes))
        try:
            _check_settings(folder, settings, resume, grows)
            _remove_leftovers(folder)
            tree.write_whole(folder / "settings.json", json.dumps(settings, indent=1).encode())
        except MinigradError:
            raise
        except OSError as error:
            raise _unwritable_error(folder, megabytes, error) from error
        return stack.pop_all()


def lock_folder(folder, megabytes=5):
    """Create a folder, and return a context that holds its lock, which is released at the end of the process at last.

    Raises MinigradError if another process is writing there, FileError if it cannot be written or the disk is full.
    """
    check_folder(folder, megabytes)
    try:
        return filelock.FileLock(folder / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise MinigradError(f"{folder}: another process is writing there\n"
                            "  help: wait for it, or --out FOLDER") from None
    except OSError as error:
        raise _unwritable_error(folder, megabytes, error) from error


def read_plan(folder):
    """Return the plan.json of a folder, {"starts": [...], "runs": {name: {...}}}, empty if there is none.

    Raises FileError for another content.
    """
    path = folder / "plan.json"
    if not path.exists():
        return {"starts": [], "runs": {}}
    try:
        plan = parse_json(path.read_bytes())
        if not (isinstance(plan, dict) and isinstance(plan.get("starts"), list) and isinstance(plan.get("runs"), dict)
                and all(isinstance(each, dict) for each in (*plan["starts"], *plan["runs"].values()))):
            raise ValueError("it lacks the starts or the runs")
        return plan
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not a plan of runs ({error})\n  help: delete it; --resume writes it again") from error


def add_to_plan(folder, starts, runs):
    """Add starts of commands to the plan.json of a folder, which only `report` reads.

    A plan that is damaged, or of runs that left no results, is replaced.

    Args:
        folder: the path; its lock is held.
        starts: a dict for each: date, command, options and versions.
        runs: {name: {"labels": ..., "steps": ..., "statement": ...}}.
    """
    plan = {"starts": [], "runs": {}}
    with contextlib.suppress(FileError):
        plan = read_plan(folder) if holds_results(folder) else plan
    plan = {"starts": [*plan["starts"], *starts], "runs": plan["runs"] | runs}
    tree.write_whole(folder / "plan.json", json.dumps(plan, indent=1).encode())


def make_folder(folder, megabytes=1):
    """Create a folder and its parents, unless they exist; raise FileError if that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable_error(folder, megabytes, error) from error


def check_folder(folder, megabytes=5):
    """Create a folder, and raise FileError unless it can be written and has so much free space."""
    make_folder(folder, megabytes)
    try:
        if shutil.disk_usage(folder).free < megabytes * 1e6:
            raise OSError(f"less than {megabytes:.0f} MB free")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4 << 20))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise _unwritable_error(folder, megabytes, error) from error


def _unwritable_error(folder, megabytes, error):
    return FileError(f"{folder}: results cannot be written there ({error})\n  help: --out FOLDER, with "
                     f"{megabytes:.0f} MB of free space")


def _remove_leftovers(folder):
    """Remove the temporary files of tree.write_whole, .NAME.PID.HEX, of processes that have ended."""
    for path in folder.iterdir():
        temporary = re.fullmatch(r"\..+\.(?:jsonl|safetensors|json)\.([0-9]+)(?:\.[0-9a-f]{16})?", path.name)
        if temporary and not _is_alive(int(temporary[1])):
            path.unlink()


def _is_alive(pid):
    """Return whether a process exists; True on Windows, where os.kill(pid, 0) would end it."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def holds_results(folder):
    """Return whether a folder holds a checkpoint, or a record that is not empty."""
    return any(path.stat().st_size for path in folder.glob("*.jsonl")) or any(folder.glob("*.safetensors"))


def _check_settings(folder, settings, resume, grows):
    kept = folder / "settings.json"
    if not kept.exists():
        if holds_results(folder):
            raise MinigradError(f"{folder} holds results, but no settings.json that identifies them\n"
                                "  help: choose another folder with --out")
        return
    try:
        old = parse_json(kept.read_bytes())
        if not isinstance(old, dict):
            raise ValueError("not a dict")
    except (OSError, ValueError) as error:
        raise FileError(f"{kept}: not the settings of an experiment ({error})\n"
                        "  help: choose another folder with --out") from error
    if "experiment" in old and not holds_results(folder):   # an earlier start left no results
        return
    differ = [key for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    longer = grows and differ == ["steps"] and type(old.get("steps")) is int and old["steps"] < settings["steps"]
    if differ and not longer:
        rows = [f"  {key}: {old.get(key)} there, {settings.get(key)} now" for key in differ]
        why = "; with another number of steps the rate drops at other steps" if {*differ} == {"steps", "drops"} else ""
        fewer = grows and differ == ["steps"] and type(old.get("steps")) is int
        again = f"--steps {old['steps']} --resume, or " if fewer else ""
        raise MinigradError("\n".join([f"{folder} holds results of another configuration:", *rows,
                                       f"  help: {again}choose another folder with --out{why}"]))
    if not resume:
        which = f"of {old['steps']} steps of this configuration" if differ else "of this configuration"
        raise MinigradError(f"{folder} already holds results {which}\n  help: --resume continues them "
                            "(finished runs are not repeated), --out FOLDER starts over")
