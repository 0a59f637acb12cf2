"""The files of an experiment: records of runs, and the folder that one process at a time may write."""
import json
import os
import re
import shutil
import tempfile

import filelock

from minigrad import FileError, MinigradError, tree


def parsed(text):
    """The value of a JSON text. Raises ValueError for anything else, also for one that is nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_lines(lines):
    """Raise ValueError unless these are the lines of a record: dicts, each with its step, a later one in each."""
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise ValueError("a line is no dict")
    steps = [line.get("step") for line in lines]
    if not all(type(step) is int and step > 0 for step in steps) or sorted({*steps}) != steps:
        raise ValueError("the steps of the lines are no integers that go up")


def read_record(path):
    """The lines of a record. A last line that was cut off in writing is left out; anything else odd is refused."""
    try:
        *whole, _ = path.read_bytes().split(b"\n")
        lines = [parsed(line) for line in whole]
        check_lines(lines)
        return lines
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: not a record of a run ({error})\n  help: move it away; --resume writes it again from "
                        "the checkpoint") from error


def prepare_folder(folder, settings, resume, megabytes, grows=False):
    """Make sure, before any training, that the folder can take the results and holds no others; gives its lock.

    settings: a dict that says what is in the folder; kept as settings.json. grows: whether more "steps" than there were
    are a continuation. Raises MinigradError if the folder holds results of other settings, or of the same without
    `resume`, or if another process is writing there; FileError if it cannot be written or the disk is full. Hold the
    lock while you write there: it goes with the process.
    """
    check_folder(folder, megabytes)
    try:
        lock = filelock.FileLock(folder / ".lock")
        lock.acquire(timeout=0)
        try:
            _check_settings(folder, settings, resume, grows)
            _remove_left_over(folder)
            tree.write_whole(folder / "settings.json", json.dumps(settings, indent=1).encode())
        except BaseException:
            lock.release()
            raise
        return lock
    except filelock.Timeout:
        raise MinigradError(f"{folder}: another process is writing there\n"
                            "  help: wait for it, or --out FOLDER") from None
    except OSError as error:
        if isinstance(error, MinigradError):
            raise
        raise _unwritable(folder, megabytes, error) from error


def make_folder(folder, megabytes=1):
    """Make a folder, with those above it, if it is not there. Raises FileError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, megabytes, error) from error


def check_folder(folder, megabytes=5):
    """Make a folder, and make sure of its room. Raises FileError where it cannot be written, or has less than that."""
    make_folder(folder, megabytes)
    try:
        if shutil.disk_usage(folder).free < megabytes * 1e6:
            raise OSError(f"less than {megabytes:.0f} MB free")
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4 << 20))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise _unwritable(folder, megabytes, error) from error


def _unwritable(folder, megabytes, error):
    return FileError(f"{folder}: results cannot be written there ({error})\n  help: --out FOLDER, with room for "
                     f"{megabytes:.0f} MB")


def _remove_left_over(folder):
    """Remove what tree.write_whole had begun in processes that are no more, .NAME.PID.HEX, and nothing else."""
    for path in folder.iterdir():
        begun = re.fullmatch(r"\..+\.(?:jsonl|safetensors|json)\.([0-9]+)(?:\.[0-9a-f]{16})?", path.name)
        if begun and not _is_alive(int(begun[1])):
            path.unlink()


def _is_alive(pid):
    """Whether there is such a process; True where asking would do harm, on Windows."""
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
    """Whether a folder holds a checkpoint, or a record with a line in it."""
    return any(path.stat().st_size for path in folder.glob("*.jsonl")) or any(folder.glob("*.safetensors"))


def _check_settings(folder, settings, resume, grows):
    kept = folder / "settings.json"
    if not kept.exists():
        if holds_results(folder):
            raise MinigradError(f"{folder} holds results, but no settings.json that says of what\n"
                                "  help: choose another folder with --out")
        return
    try:
        old = parsed(kept.read_bytes())
        if not isinstance(old, dict):
            raise ValueError("no dict")
    except (OSError, ValueError) as error:
        raise FileError(f"{kept}: not the settings of an experiment ({error})\n"
                        "  help: choose another folder with --out") from error
    if "experiment" in old and not holds_results(folder):   # what was begun there came to nothing
        return
    differ = [key for key in sorted({*old, *settings}) if old.get(key) != settings.get(key)]
    if differ and not (grows and differ == ["steps"] and old["steps"] < settings["steps"]):
        rows = [f"  {key}: {old.get(key)} there, {settings.get(key)} now" for key in differ]
        why = ": with other steps the rate falls elsewhere" if {*differ} == {"steps", "drops"} else ""
        raise MinigradError("\n".join([f"{folder} holds results of another configuration:", *rows,
                                       f"  help: choose another folder with --out{why}"]))
    if not resume:
        there = f"of {old['steps']} steps of this configuration" if differ else "of this configuration"
        raise MinigradError(f"{folder} already holds results {there}\n  help: --resume continues them "
                            "(finished runs are not repeated), --out FOLDER starts anew")
