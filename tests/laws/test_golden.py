"""The package computes what it computed when the golden numbers were recorded.

On a machine with the processor and the packages of the record every bit has to agree; elsewhere the numbers have to,
runs of fixed steps to 1e-11 and adaptive ones to 1e-7. A test's name says which comparison it makes. Where results
change and are meant to, one command in the root of the repository records them anew:

    python -m tests.golden --record
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from golden.cases import CASES
from golden.recording import PATH, Outcome, Record, differences, environment, sha256

RECORD = Record.read(PATH)
HERE = environment()
BITS = RECORD.environment == HERE


def compared(name: str) -> str:
    """The name of a test: the case, and how it is compared."""
    case = RECORD.cases.get(name)
    return f"{name}: {'bits' if BITS else 'not recorded' if case is None else f'to {case.tolerance:g}'}"


@pytest.mark.parametrize("name", CASES, ids=compared)
def test_as_recorded(name):
    said = differences(CASES[name].outcome(), RECORD.cases.get(name), BITS)
    others = [
        f"{key}: {HERE[key]}, recorded {value}" for key, value in RECORD.environment.items() if HERE[key] != value
    ]
    assert not said, "\n".join([*said, *others])


def test_every_case_is_recorded_and_no_other():
    assert RECORD.cases.keys() == CASES.keys()


def test_every_shipped_problem_has_a_case():
    import mfpde as mf

    assert {name for name in CASES if name.startswith("problem ")} >= {
        f"problem {name}" for name in mf.problems.names()
    }


class TestComparison:
    """What a comparison sees, and what it does not."""

    OUTCOME = Outcome.of(1e-11, {"density": [1.0, 2.0]}, {"energy": [3.0, 1e-9]})

    def test_the_last_bit(self):
        other = Outcome.of(1e-11, {"density": [1.0, np.nextafter(2.0, 3.0)]}, self.OUTCOME.numbers)
        assert differences(other, self.OUTCOME, bits=True) == ["the bits of density differ"]
        assert differences(other, self.OUTCOME, bits=False) == []

    @pytest.mark.parametrize(("energy", "seen"), [([3.0 + 2e-11, 1e-9], False), ([3.0 + 4e-11, 1e-9], True)])
    def test_tolerance(self, energy, seen):
        other = dataclasses.replace(self.OUTCOME, numbers={"energy": energy})
        assert bool(differences(other, self.OUTCOME, bits=False)) is seen
        assert differences(other, self.OUTCOME, bits=True)

    @pytest.mark.parametrize("numbers", [{}, {"energy": [3.0]}, {"energy": [3.0, 1e-9], "mass": [1.0]}], ids=str)
    @pytest.mark.parametrize("bits", [True, False])
    def test_what_is_missing_or_too_much(self, numbers, bits):
        assert differences(dataclasses.replace(self.OUTCOME, numbers=numbers), self.OUTCOME, bits)
        assert differences(self.OUTCOME, None, bits)
        assert differences(None, self.OUTCOME, bits)

    def test_zeros_have_no_sign_and_order_no_meaning(self):
        assert sha256([-0.0, 1.0]) == sha256([0.0, 1.0])
        values = np.arange(6.0).reshape(2, 3)
        assert sha256(np.asfortranarray(values)) == sha256(values)
        assert sha256(values) != sha256(values.T)
        assert sha256(values) != sha256(values.ravel())

    def test_what_is_written_is_read(self, tmp_path):
        record = Record(HERE, {"a case": self.OUTCOME})
        record.write(tmp_path / "golden.json")
        assert Record.read(tmp_path / "golden.json") == record

    def test_numbers_are_finite(self):
        with pytest.raises(ValueError, match="energy is not finite"):
            Outcome.of(1e-11, {}, {"energy": [np.nan]})
