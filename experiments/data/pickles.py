"""An unpickler that makes arrays and plain values alone: a pickle of other objects may run any program."""
import io
import pickle

import numpy as np

from minigrad import FileError

_reconstruct = np.empty(0).__reduce__()[0]                  # NumPy 2 moved it


def _encode(text, encoding):
    """Return the bytes of an array, which protocols 0 to 2 write as a text."""
    if encoding != "latin1":
        raise ValueError(f"a text in {encoding}")
    return text.encode("latin1")


class Unpickler(pickle.Unpickler):
    """Unpickler of NumPy arrays and plain values; raises FileError, with the remedy as its help, for any other class.

    Texts of Python 2 become bytes.
    """
    ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): lambda kind, align, copy: np.dtype(kind, copy=True),    # NumPy 2.4: no integers as booleans
        ("_codecs", "encode"): _encode,
    }

    def __init__(self, content, where, remedy="such a file may run any program; download it again"):
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.where, self.remedy = where, remedy

    def find_class(self, module, name):
        """Return the class or function of this name if it is part of an array."""
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise FileError(f"{self.where}: the pickle asks for {module}.{name}, which is not part of an array\n"
                            f"  help: {self.remedy}") from None
