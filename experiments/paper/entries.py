"""The entries of a comparison on CIFAR: a method, and the suffixes that change its schedule; cifar.py says how."""
from typing import NamedTuple

from minigrad import MinigradError

from ..methods import METHODS, Boosted, Weighting, find_method

SUFFIXES = ("es", "half", "short", "ft")


class Entry(NamedTuple):
    """An entry of a comparison: a method, and the suffixes that change its schedule."""
    method: Weighting | Boosted
    suffixes: tuple[str, ...] = ()

    @property
    def name(self):
        """The name, such as "uniform+es+ft"."""
        return "+".join([self.method.name, *self.suffixes])

    @property
    def trained_by(self):
        """The method that takes the steps of its last stage."""
        return METHODS["fine_tune"] if "ft" in self.suffixes else self.method

    @property
    def base(self):
        """The Entry whose final parameters this one starts from, or None."""
        if "ft" in self.suffixes:
            return self._replace(suffixes=self.suffixes[:-1])
        return Entry(self.method.base) if self.method.base else None


def parse_entry(name):
    """Return the Entry of a name, such as "uniform+es+ft"; raise MinigradError for impossible ones."""
    method, *suffixes = name.split("+")
    method = find_method(method)
    if suffixes != [s for s in SUFFIXES if s in suffixes] or len(set(suffixes) - {"ft"}) > 1:
        raise MinigradError(f"there is no method {name}\n  help: {method.name} may be followed by +es, +half or "
                            "+short, and then by +ft")
    if suffixes and isinstance(method, Boosted):
        raise MinigradError(f"there is no method {name}: {method.name} trains no network, and +{suffixes[0]} changes "
                            f"the schedule of a network\n  help: --methods {method.name}")
    return Entry(method, tuple(suffixes))
