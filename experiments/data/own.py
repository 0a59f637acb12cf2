"""Data of your own: a table or texts from CSV files, or images from folders, and how they become arrays of numbers.

    train = read("train.csv", label="diagnosis")        # Examples: row numbers, labels, values as they are in the file
    inputs = Table.fit(train)                           # means and scales of numbers, values of categories
    inputs(train)                                       # (n, inputs), float32
    to_json(inputs)                                     # what it takes to do the same to another file

Table, Words and Pixels are the three ways from examples to numbers. All errors name the file, the row and the remedy.
"""
import csv
import difflib
import json
import pathlib
import re
import textwrap
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas
from sklearn.feature_extraction.text import TfidfVectorizer

from minigrad.errors import DataError, FileError

from .own_images import read_images

MOST_CATEGORIES, MOST_WORDS = 100, 20_000       # of a column; of all texts
FORMATTED = re.compile(r"[-+]?[0-9][0-9.,' ]* ?%?")      # 1,234 or 0,5 or 12 %, which are not read as numbers
NUMBERS = 0.9                                   # a column with so many numbers is one of numbers, with mistakes
LARGEST, FAR = 1e30, 1e4                        # larger numbers, and more standard deviations, are mistakes


class Examples(NamedTuple):
    """Examples as they are in a file or a folder.

    values: (n, columns) strings of a table, (n,) texts, or (n, size, size, 3) uint8 images.
    """
    source: str                 # the path
    names: np.ndarray           # (n,): the number of the row, 1 below the header, or the path of the image
    labels: Any                 # (n,) strings, or None
    values: np.ndarray
    columns: tuple = ()         # the names of a table's columns, of texts that of theirs
    unused: tuple = ()          # columns of the file that are not read, although nobody said so

    def take(self, indices):
        """Return the examples with these indices."""
        labels = None if self.labels is None else self.labels[indices]
        return self._replace(names=self.names[indices], labels=labels, values=self.values[indices])


def read(path, label=None, text=None, drop=(), columns=None, size=32, labeled=True):
    """Return the Examples of a CSV file or of a folder of images.

    Args:
        path: the file, with a header; or the folder, with a folder of images for each class.
        label: the column with the labels; None where the file may lack them.
        text: the column with the texts; None: the file is a table.
        drop: columns of a table to leave out.
        columns: the columns to read; None: all.
        size: images are resized to size by size pixels.
        labeled: whether the first folder below `path` is the label of an image.

    Raises FileError for what cannot be read, DataError for values and columns that are missing.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        return Examples(str(path), *read_images(path, size, labeled))
    frame = _read_frame(path, {label, text, *(columns or ())})
    wanted = [text] if text else list(columns or [name for name in frame if name != label and name not in drop])
    for name in [*wanted, *([label] if label else []), *drop]:
        if name not in frame:
            near = difflib.get_close_matches(name, frame, 1)
            raise DataError(f"{path}: there is no column {name}\n  columns: {', '.join(frame)}\n"
                            f"  help: {f'{near[0]}?' if near else 'correct its name, or add it to the file'}")
        if name in wanted and name.startswith("Unnamed: "):         # as pandas calls it, the index of a table often
            raise DataError(f"{path}: a column has no name\n  help: name it, or --drop '{name}'")
        missing = np.flatnonzero(frame[name].isna())
        if len(missing) and name not in drop:
            row = f"{frame.index[missing[0]]}{_and_others(missing)}"
            raise DataError(f"{path}: column {name} has no value in row {row}\n"
                            "  help: fill it in, leave out the row, or --drop the column; an empty cell, NA, NaN, None "
                            "and null all count as missing")
    if not wanted:
        raise DataError(f"{path}: no column is left to learn from\n  help: the file needs one besides the label")
    values, labels = frame[wanted].to_numpy(object), frame[label].to_numpy(str) if label else None
    unused = [name for name in frame if name not in wanted and name != label and name not in drop]
    return Examples(str(path), frame.index.to_numpy(), labels, values[:, 0] if text else values, tuple(wanted),
                    () if text else tuple(unused))


def _split(header, separator):
    """Return the names in the header of a CSV file."""
    return [name.strip() for name in next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])]


def _read_frame(path, known):
    """Return a CSV file as a data frame of strings, indexed by the numbers of the rows; blank ones are left out.

    The separator is the one that gives most of the names in `known`, and then most columns.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            blank = 0                                           # lines before the header
            while (header := file.readline()) and not header.strip():
                blank += 1
        split = {each: _split(header, each) for each in ",;\t"}
        separator = max(split, key=lambda each: (len(known & {*split[each]}), len(split[each])))
        names = split[separator]
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)     # of rows with more values than the header
            frame = pandas.read_csv(path, sep=separator, dtype=str, encoding="utf-8-sig", index_col=False,
                                    skipinitialspace=True, skiprows=blank, skip_blank_lines=len(names) == 1)
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not a text in UTF-8 ({error})\n  help: save it as CSV in UTF-8") from error
    except OSError as error:
        raise FileError(f"{path}: it cannot be read ({error.strerror or error})\n"
                        "  help: pass a CSV file, or a folder with a folder of images for each class") from error
    except (ValueError, csv.Error, pandas.errors.ParserWarning) as error:       # ParserError is a ValueError
        raise FileError(f"{path}: not a CSV file ({str(error).strip()})\n"
                        "  help: a header and then rows with as many values, separated by commas") from error
    twice = [name for name in names if name and names.count(name) > 1]      # pandas would call the second NAME.1
    if twice:
        raise DataError(f"{path}: two columns have the name {twice[0]}\n  help: rename or remove one of them")
    frame = frame.rename(columns=str.strip).apply(lambda column: column.str.strip())
    frame = frame.mask(frame == "").set_axis(range(1, len(frame) + 1))
    frame = frame if len(names) == 1 else frame.dropna(how="all")
    if not len(frame):
        raise DataError(f"{path}: it has no row below the header\n  help: pass a file with examples")
    return frame


# ------------------------------------------------------------------------------------------------- to numbers

class Table(NamedTuple):
    """The columns of a table: numbers are standardized, a category becomes one 0 or 1 for each of its values.

    A category that is not among the values of the training set is all zeros. Columns with the same value in each row
    of the training set are left out.
    """
    numbers: dict       # name: [mean, standard deviation]
    categories: dict    # name: its values

    @classmethod
    def fit(cls, train, categories=()):
        """Return the table of a training set. Raises DataError for columns of neither numbers nor few categories.

        categories: columns of categories, even if all their values are numbers.
        """
        for name in categories:
            if name not in train.columns:
                raise DataError(f"{train.source}: there is no column {name}\n  columns: {', '.join(train.columns)}\n"
                                "  help: correct the name after --categories")
        new = cls({}, {})
        for name, values in zip(train.columns, train.values.T):
            numbers = pandas.to_numeric(values, errors="coerce")
            if name not in categories and np.isfinite(numbers).mean() >= NUMBERS:
                column = new.read_numbers(train, name)
                if column.min() < column.max():
                    new.numbers[name] = [float(column.mean()), float(column.std())]
                continue
            different = sorted(set(values))
            odd = [value for value in values if FORMATTED.fullmatch(value)]
            if name not in categories and len(odd) >= NUMBERS * len(values):
                raise DataError(f"{train.source}: column {name} has {odd[0]!r}: numbers are written like 1234.5\n"
                                f"  help: write them so, or --categories {name}")
            if len(different) > MOST_CATEGORIES:
                raise DataError(f"{train.source}: column {name} has {len(different)} different values, such "
                                f"as {textwrap.shorten(values[0], 60)!r}: too many for a category\n"
                                f"  help: --text {name} if these are texts to learn from, otherwise --drop {name}")
            if len(different) > 1:
                new.categories[name] = different
        if not new.columns:
            raise DataError(f"{train.source}: no column has different values\n"
                            "  help: pass more rows, or other columns, to learn from")
        return new

    @property
    def columns(self):
        """The names of all columns."""
        return [*self.numbers, *self.categories]

    def __call__(self, examples):
        """Return the examples as an array (n, inputs), float32. Raises DataError for a value that is not a number."""
        columns, parts = dict(zip(examples.columns, examples.values.T)), []
        for name, (mean, scale) in self.numbers.items():
            scaled = (self.read_numbers(examples, name) - mean) / scale
            far = np.flatnonzero(np.abs(scaled) > FAR)
            if len(far):
                raise DataError(f"{examples.source}: column {name} has {columns[name][far[0]]!r} in row "
                                f"{examples.names[far[0]]}{_and_others(far)}, {abs(scaled[far[0]]):.0e} standard "
                                f"deviations from the mean in training, {mean:.4g}\n"
                                f"  help: correct it, leave out the row, or --drop {name}")
            parts.append(scaled[:, None])
        parts += [columns[name][:, None] == np.array(values, object) for name, values in self.categories.items()]
        return np.concatenate(parts, 1).astype("float32")

    def unknown(self, examples):
        """Return {column: values of a category that the training set lacks}."""
        columns = dict(zip(examples.columns, examples.values.T))
        found = {name: sorted(set(columns[name]) - set(values)) for name, values in self.categories.items()}
        return {name: values for name, values in found.items() if values}

    @staticmethod
    def read_numbers(examples, name):
        """Return the numbers in a column of the examples, (n,). Raises DataError for a value that is none."""
        values = examples.values[:, examples.columns.index(name)]
        numbers = np.asarray(pandas.to_numeric(values, errors="coerce"), float)
        wrong = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
        if len(wrong):
            raise DataError(f"{examples.source}: column {name} has {values[wrong[0]]!r} in row "
                            f"{examples.names[wrong[0]]}{_and_others(wrong)}, where others have numbers\n"
                            f"  help: correct it, or --categories {name}")
        return numbers


class Words(NamedTuple):
    """The words of texts: how often each occurs, times its rarity (TF-IDF), scaled to length 1."""
    column: str
    words: list
    rarity: list        # the logarithm of all texts over those with the word, see scikit-learn's TfidfTransformer

    @classmethod
    def fit(cls, train):
        """Return the words that at least two texts of the training set have. Raises DataError if there is none."""
        try:
            fitted = TfidfVectorizer(min_df=2, max_features=MOST_WORDS).fit(train.values)
        except ValueError as error:
            raise DataError(f"{train.source}: no word of column {train.columns[0]} is in two texts\n"
                            "  help: pass the column with the texts, and more rows") from error
        return cls(train.columns[0], fitted.get_feature_names_out().tolist(), fitted.idf_.tolist())

    @property
    def columns(self):
        """The name of the column."""
        return [self.column]

    def __call__(self, examples):
        """Return the texts as a sparse matrix (n, words)."""
        vectorizer = TfidfVectorizer(vocabulary=self.words)
        vectorizer.idf_ = np.array(self.rarity)
        return vectorizer.transform(examples.values)


class Pixels(NamedTuple):
    """Images of one size, gray or in color, each channel standardized."""
    size: int
    mean: list          # of each channel: one if all training images are gray
    scale: list

    @classmethod
    def fit(cls, train):
        """Return size, means and standard deviations of a training set."""
        gray = (train.values == train.values[..., :1]).all()
        channels = np.moveaxis(train.values[..., :1 if gray else 3], -1, 0)
        return cls(train.values.shape[1], [float(each.mean()) for each in channels],
                   [float(each.std()) or 1.0 for each in channels])

    columns = None

    def __call__(self, examples):
        """Return the images as an array (n, size, size, channels), float32."""
        return ((examples.values[..., :len(self.mean)] - np.array(self.mean)) / np.array(self.scale)).astype("float32")


KINDS = {"table": Table, "words": Words, "pixels": Pixels}


def to_json(inputs):
    """Return a Table, Words or Pixels as a JSON text."""
    return json.dumps({"kind": type(inputs).__name__.lower(), **inputs._asdict()}, indent=1, ensure_ascii=False)


def from_json(text):
    """Return the Table, Words or Pixels of such a text. Raises ValueError for another text."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.get("kind") not in KINDS:
        raise ValueError("it has no kind, which is table, words or pixels")
    try:
        return KINDS[fields.pop("kind")](**fields)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _and_others(rows):
    return f" and {len(rows) - 1} others" * (len(rows) > 1)
