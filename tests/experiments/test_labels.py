"""Labels of a file: every form of file gives the same labels, and no file runs a program."""
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from experiments.data import Flip, Images, labels, noisy, read_labels, relabel
from minigrad import FileError

TRUE = np.array([3, 1, 2, 0, 4, 1, 0, 2])
WORSE = np.array([3, 1, 0, 0, 4, 4, 0, 2])                  # two of eight are wrong
BOTH = {"clean_label": TRUE, "worse_label": WORSE, "aggre_label": TRUE}


def pickled(value, module="numpy._core.multiarray"):
    """Return a pickle of protocol 2, as PyTorch writes it, in which arrays come from this module."""
    return pickle.dumps(value, 2).replace(b"numpy._core.multiarray", module.encode())


def packed(content, name="CIFAR-10_human/data.pkl"):
    """Return a zip archive with one member, as torch.save writes it since PyTorch 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("CIFAR-10_human/version", "3\n")
    return buffer.getvalue()


def legacy(value):
    """Return four pickles in a row, as torch.save wrote them before."""
    return b"".join(pickle.dumps(each, 2) for each in (0x1950a86a20f9469cfc6c, 1001, {"little_endian": True}, value)) + pickle.dumps([], 2)


def saved(save, *arrays, **named):
    """Return the bytes that numpy's save or savez writes."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def lines(*rows):
    return "\n".join(",".join(map(str, row)) for row in rows).encode() + b"\n"


SHUFFLED = [(5, 4), (0, 3), (7, 2), (1, 1), (2, 0), (6, 0), (3, 0), (4, 4)]        # index, label
FORMS = {                                                   # file: its content, and the key to ask for
    "one.npy": (saved(np.save, WORSE.astype(np.uint8)), ""), "dict.npy": (saved(np.save, BOTH), "worse_label"),
    "old.npy": (saved(lambda file, value: np.lib.format.write_array(file, value, (2, 0)), np.array(BOTH)), "worse_label"),
    "some.npz": (saved(np.savez, **BOTH), "worse_label"), "one.npz": (saved(np.savez_compressed, noisy_label=WORSE, clean_label=TRUE), ""),
    "new.pt": (packed(pickled(BOTH)), "worse_label"), "numpy1.PT": (packed(pickled(BOTH, "numpy.core.multiarray")), "worse_label"),
    "legacy.pth": (legacy(BOTH), "worse_label"), "array.pt": (packed(pickled(WORSE)), ""), "python2.pt": (packed(pickled({b"worse_label": WORSE, b"aggre_label": TRUE})), "worse_label"),
    "a label each.txt": (lines(*zip(WORSE)), ""), "index.csv": (lines(*SHUFFLED), ""),
    "names.csv": (lines(("index", "clean_label", "worker", "label"), *((k, TRUE[k], "W7", label) for k, label in SHUFFLED)), ""),
    "pandas.csv": (lines(("", "clean_label", "label"), *((k, TRUE[k], label) for k, label in SHUFFLED)), ""),
    "id.csv": (lines(("label", "id", "worker"), *((label, k, k // 2) for k, label in SHUFFLED)), "label"),
    "index.npz": (saved(np.savez, number=[k for k, _ in SHUFFLED], labels=[label for _, label in SHUFFLED], epoch=3), "labels"),
    "excel.csv": (b"\xef\xbb\xbf" + lines(("index", "label"), *SHUFFLED).replace(b",", b";").replace(b"\n", b"\r\n"), ""),
    "bom.txt": (b"\xef\xbb\xbf" + lines(*zip(WORSE)), ""), "tabs.txt": (lines(*SHUFFLED).replace(b",", b"\t"), ""),
    "quoted.csv": (b'"index","label"\n' + b"".join(b'"%d","%d"\n' % row for row in SHUFFLED), ""),
    "more.csv": (b"\n" + lines(("worse_label", "aggre_label"), *zip(WORSE, TRUE)), "worse_label"), "a:b.csv": (lines(*zip(WORSE)), "")}


def write(folder, name, content):
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_file_gives_the_same_labels(tmp_path, name):
    content, key = FORMS[name]
    given = read_labels(write(tmp_path, name, content) + f":{key}" * bool(key), TRUE, 5)
    np.testing.assert_array_equal(given.labels, WORSE)
    assert given.labels.dtype == np.int64 and given.share == 0.25
    assert given.digest == labels.Given("another", WORSE.astype(np.int64), 0.0).digest and len(given.digest) == 16
    assert given.digest != labels.Given("another", TRUE.astype(np.int64), 0.0).digest


def test_names_are_those_of_file_and_array(tmp_path, monkeypatch):
    path = write(tmp_path, "CIFAR-10_human.npy", saved(np.save, BOTH))
    assert read_labels(f"{path}:worse_label", TRUE, 5).name == "labels-CIFAR-10_human-worse_label"
    assert read_labels(f"{path}:clean_label", TRUE, 5).share == 0.0
    assert read_labels(write(tmp_path, "a b+c.csv", lines(*zip(WORSE))), TRUE, 5).name == "labels-a_b_c"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_labels("~/CIFAR-10_human.npy:worse_label", TRUE, 5).share == 0.25
    assert read_labels("~/a b+c.csv", TRUE, 5).share == 0.25
    assert read_labels(write(tmp_path, "third.csv", lines(*zip([0, 1, 2]))), np.array([0, 1, 1]), 5).share == 0.3333


REFUSED = {                                                 # file: its content, the key to ask for, and the error
    "several.npy": (saved(np.save, BOTH), "", "it has 2 arrays of labels\n  help: --labels .*several.npy:KEY, where KEY is one of 'clean_label', 'worse_label', 'aggre_label'"),
    "other key.npz": (saved(np.savez, **BOTH), "best_label", "it has no best_label\n  help: .*KEY is one of 'clean_label'"),
    "empty dict.npy": (saved(np.save, {}), "", "it has 0 arrays of labels\n  help: .* one of no name"),
    "ordered.npy": (saved(np.save, {"clean_label": TRUE[::-1], "worse_label": WORSE}), "",
                    "clean_label differs from the label of the data for 8 of 8 images, so .* another order\n  help: .*CIFAR-10_human.pt"),
    "short.npy": (saved(np.save, WORSE[:-1]), "", r"its array has the shape \(7,\), but there are 8 training images\n  help: one label for each"),
    "square.npz": (saved(np.savez, worse=np.zeros((8, 1), int)), "", r"its worse has the shape \(8, 1\)"),
    "floats.npy": (saved(np.save, WORSE + 0.5), "", "its array is of float64, not of integers\n  help: labels from 0 to 4"),
    "booleans.npy": (saved(np.save, WORSE > 1), "", "its array is of bool, not of integers"),
    "high.npy": (saved(np.save, WORSE + 1), "", "its array has labels from 1 to 5\n  help: labels from 0 to 4"),
    "low.csv": (lines(*zip(WORSE - 1)), "", "its array has labels from -1 to 3"),
    "wide.csv": (lines(*[(1, 2, 3)] * 8), "", "its lines are neither LABEL nor INDEX,LABEL"), "ragged.csv": (b"1\n1,2\n", "", "its lines are neither LABEL"),
    "twice.csv": (lines(*[(0, 1)] * 8), "", "its index 'index' does not hold each number from 0 to 7 once\n  help: .* from 0"),
    "from one.csv": (lines(("id", "label"), *((k + 1, label) for k, label in SHUFFLED)), "label", "its index 'id' does not hold each number from 0 to 7 once"),
    "index.npy": (saved(np.save, {"index": 3, "label": WORSE}), "", "its index 'index' does not hold each number"),
    "two orders.csv": (lines(("", "id", "label"), *((n, k, label) for n, (k, label) in enumerate(SHUFFLED))), "label", "'' and 'id' count the images in different orders\n  help: leave"),
    "no name.npy": (saved(np.save, WORSE), "label", "it has no label: its labels have no name\n  help: --labels .*no name.npy$"),
    "one name twice.csv": (lines(("label", "label"), *zip(WORSE, TRUE)), "label", "two columns have the name 'label'"),
    "header.csv": (b"index,label\n", "", "its lines are neither LABEL"), "one line.txt": (b"1 " * 50_000, "", "its lines are neither .{0,200}$"),
    "half.csv": (lines(("id", "label"), *((k, float(label)) for k, label in SHUFFLED)), "label", "it has no label"),
    "index of floats.csv": (lines(("index", "label"), *((float(k), label) for k, label in SHUFFLED)), "", "invalid literal .* '5.0'"),
    "empty.txt": (b"\n", "", "it is empty"),
    "words.txt": (b"label,w\ncat,a\ndog,b\n", "", "no column holds integers alone: 'label' has 'cat', 'w' has 'a'\\)\n  help: one integer"), "huge.txt": (b"9" * 40 + b"\n1", "", "its 9999.* has the shape .1,."), "bytes.csv": (b"\xff\xfe", "", "not a file of labels .UnicodeDecodeError"),
    "cut off.npy": (saved(np.save, WORSE)[:-3], "", "not a file of labels"), "no.npy": (b"nothing", "", "not a file of labels"), "no.npz": (b"nothing", "", "not a file of labels"),
    "no.pt": (b"nothing", "", "not a file of labels"), "other.pt": (packed(b"", "x"), "", "not a file of labels"), "list.npy": (saved(np.save, np.array([[1], [1, 2]], object)), "", r"its array has the shape \(2,\)"),
    "objects.npy": (saved(np.save, WORSE.astype(object)), "", "its array is of object, not of integers"),
    "labels.mat": (b"", "", "labels are not read from a file of this kind\n  help: .npy, .npz, .pt, .csv or .txt; FILE:KEY"),
    "codec.pt": (packed(pickled(WORSE).replace(b"latin1", b"rot_13")), "", "not a file of labels .ValueError: a text in rot_13")}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_label_for_each_image_is_refused(tmp_path, name):
    content, key, says = REFUSED[name]
    with pytest.raises(FileError, match=f"(?s){name.replace(' ', '.')}.*{says}") as error:
        read_labels(write(tmp_path, name, content) + f":{key}" * bool(key), TRUE, 5)
    assert "\n  help: " in str(error.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    for name in ("none.npy", "none.csv", "none.pt:key"):
        with pytest.raises(FileError, match="none.*: the file cannot be read .No such file or directory.\n  help: --labels FILE or FILE:KEY"):
            read_labels(str(tmp_path / name), TRUE, 5)


def test_large_files_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    assert labels.LARGEST == 64 << 20
    monkeypatch.setattr(labels, "LARGEST", 2000)
    bomb = saved(np.savez_compressed, labels=np.zeros(10_000, int))
    assert len(bomb) < 2000
    for name, content in (("bomb.npz", bomb), ("bomb.pt", packed(pickled(np.zeros(10_000, int)))), ("large.npy", saved(np.save, np.zeros(1000, int)))):
        with pytest.raises(FileError, match="it unpacks to more than 2000 bytes|it has more than 2000 bytes"):
            read_labels(write(tmp_path, name, content), np.zeros(10_000, int), 5)


def test_files_of_the_largest_size_are_read(tmp_path, monkeypatch):
    path = write(tmp_path, "two.npz", saved(np.savez_compressed, labels=np.zeros(10_000, int)))
    with zipfile.ZipFile(path) as archive:
        monkeypatch.setattr(labels, "LARGEST", archive.infolist()[0].file_size)
    assert read_labels(path, np.zeros(10_000, int), 5).share == 0.0
    monkeypatch.setattr(labels, "LARGEST", 2)
    assert read_labels(write(tmp_path, "one.csv", b"3\n"), np.array([3]), 5).labels.tolist() == [3]


class Harmful:
    """An object whose unpickling creates a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["harm.npy", "inside.npy", "harm.npz", "harm.pt", "legacy.pt"])
def test_no_program_in_a_file_is_run(tmp_path, name):
    evil = {"labels": Harmful(tmp_path / "harm")}
    content = {"harm.npy": lambda: saved(np.save, np.array(Harmful(tmp_path / "harm"), object)), "inside.npy": lambda: saved(np.save, evil),
               "harm.npz": lambda: saved(np.savez, labels=np.array(evil)), "harm.pt": lambda: packed(pickle.dumps(evil, 2)), "legacy.pt": lambda: legacy(evil)}[name]()
    with pytest.raises(FileError, match="not a file of labels .ValueError: Object arrays cannot be loaded" if name == "harm.npz" else
                       f"the pickle asks for {os.mkdir.__module__}.mkdir, which is not part of an array\n  help: such a file may run any program; "
                       "where you trust it, open it and save the labels alone: numpy.save"):
        read_labels(write(tmp_path, name, content), TRUE, 5)
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(evil))
    assert (tmp_path / "harm").exists()                     # the test can fail


@pytest.mark.needs("torch")
@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_writes(tmp_path, zipped):
    import torch
    path = tmp_path / "CIFAR-10_human.pt"
    torch.save(BOTH, path, _use_new_zipfile_serialization=zipped)
    np.testing.assert_array_equal(read_labels(f"{path}:worse_label", TRUE, 5).labels, WORSE)
    torch.save({"worse_label": torch.as_tensor(WORSE)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FileError, match="asks for torch._utils._rebuild_tensor_v2, .*\n  help: .*numpy.save"):
        read_labels(str(path), TRUE, 5)


@pytest.mark.parametrize("variant", ["exact", "paper"])
@pytest.mark.parametrize("validation", [0, 20])
def test_a_task_with_the_labels_of_a_file(variant, validation):
    """Training and validation images have the labels of the file, the others their own; nothing else changes."""
    true = np.random.default_rng(0).permutation(np.arange(200) % 10)
    given = np.where(np.arange(200) % 4 == 0, (true + 1) % 10, true)
    source = Images(np.arange(200).reshape(-1, 1, 1, 1), true)
    plain = noisy(source, source, 0, Flip(variant=variant), clean=20, validation=validation)
    task = relabel(plain, given)
    for part, before in ((task.train, plain.train), (task.validation, plain.validation), (task.baseline, plain.baseline)):
        if before is None:
            assert part is None
            continue
        np.testing.assert_array_equal(part.indices, before.indices)
        np.testing.assert_array_equal(part.labels, given[part.indices])
        np.testing.assert_array_equal(part.true, true[part.indices])
        assert part.images is before.images and part.wrong.any()
    assert task.clean is plain.clean and task.test is plain.test and task.classes == 10
    wrong = task.train.wrong.sum()
    assert task.statement == f"{plain.statement}; {wrong} labels of training wrong ({wrong / len(task.train):.1%}, those of a file)"
