import math

import pytest
from scipy import constants

from nrjax import units


def test_units_are_codata():
    milli_electronvolt = constants.e * 1e-3
    assert pytest.approx(constants.hbar / milli_electronvolt * 1e12, rel=1e-12) == 1 / units.ps
    assert pytest.approx(milli_electronvolt / constants.h * 1e-9, rel=1e-12) == 1 / units.GHz
    assert 1 / units.GHz == pytest.approx(241.799, rel=1e-6)
    assert units.kelvin == pytest.approx(constants.k / milli_electronvolt, rel=1e-12)
    assert units.tesla == pytest.approx(constants.value("Bohr magneton") / milli_electronvolt, rel=1e-8)
    assert units.meV == 1.0


def test_frequency_and_time_fit_together():
    # One turn at 1 GHz takes 1000 ps.
    assert 1.0 * units.GHz * 1000.0 * units.ps == pytest.approx(2 * math.pi, rel=1e-12)
