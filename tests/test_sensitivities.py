"""The table of sensitivities, against the scaling of all energies and against differences."""

import numpy as np
import pytest

import nrjax
from nrjax import BrillouinBath, DzyaloshinskiiMoriya, hanai2025_bilayer, illuminated_bilayer, sensitivity, steady_state
from nrjax.maps.sensitivities import _unit
from tests import differences
from tests.refusal import assert_refused

# Power is an energy times a rate.
DEGREE = {"angle": 0.0, "length A": 0.0, "length B": 0.0, "absorbed_power B": 2.0}


def test_energies_scale_together():
    """Multiply every energy by s: frequencies and growth rates follow, lengths and angles stay (Euler's theorem)."""
    spins = {"bath": BrillouinBath(2.5), "temperature": 4.0}
    table = sensitivity(hanai2025_bilayer(0.05, 6.0, mediated_exchange=[[9.0, 6.0], [5.0, 4.0]], **spins)).relative
    assert float(table.sel(observable="length A", parameter="bath_spin")) != 0.0
    energies = [str(p) for p in table.parameter.values if _unit(str(p)) == "meV"]
    assert len(energies) == 4 + 4 + 2 + 2 + 2
    for observable in table.observable.values:
        total = float(table.sel(observable=observable, parameter=energies).sum())
        np.testing.assert_allclose(total, DEGREE.get(str(observable), 1.0), atol=1e-7)


def test_light_scales_with_its_energies():
    """kappa ~ dipole^2 I / energy: s-fold energies ask for s^2-fold intensity; dipoles and intensity act alike."""
    table = sensitivity(illuminated_bilayer()).relative
    energies = [str(p) for p in table.parameter.values if _unit(str(p)) == "meV"]
    assert {"photon_energy", "level A", "linewidth B", "exchange BA", "temperature A"} <= set(energies)
    assert {"fermi_energy A", "fermi_energy B", "hybridization A"} <= set(energies)
    seen = ("length B", "angle", "chase_frequency", "rotation_frequency", "growth_rate", "absorbed_power B")
    for name in seen:
        row = table.sel(observable=name)
        total = float(row.sel(parameter=energies).sum() + 2.0 * row.sel(parameter="intensity"))
        np.testing.assert_allclose(total, DEGREE.get(name, 1.0), atol=1e-6)
        if name.startswith("absorbed"):
            continue  # Intensity acts on it like dipoles, but photon energies do by themselves.
        dipoles = float(row.sel(parameter=["dipole A", "dipole B"]).sum())
        np.testing.assert_allclose(dipoles, 2.0 * float(row.sel(parameter="intensity")), rtol=1e-8)
    assert list(table.observable.values)[-2:] == ["absorbed_power A", "absorbed_power B"]
    assert "chase_frequency" in table.to_pandas().index


def test_against_differences():
    dataset = sensitivity(hanai2025_bilayer(0.05, 6.0))

    def chase(gamma_b, j_ba, alpha_b):
        return float(
            steady_state(
                hanai2025_bilayer(gamma_b, exchange=[[10.0, 6.0], [j_ba, 5.0]], damping=(0.1, alpha_b))
            ).chase_frequency
        )

    point, names = np.array([0.05, 6.0, 0.002]), ["loss_rate B", "exchange BA", "damping B"]
    np.testing.assert_allclose(float(dataset.observed.sel(observable="chase_frequency")), chase(*point), rtol=1e-10)
    for i, name in enumerate(names):
        slope = differences.slope(
            lambda x, i=i: chase(*np.where(np.arange(3) == i, x, point)), point[i], 1e-4 * point[i]
        )
        cell = dataset.sel(observable="chase_frequency", parameter=name)
        np.testing.assert_allclose(float(cell.absolute), slope, rtol=1e-6)
        np.testing.assert_allclose(float(cell.relative), slope * point[i] / chase(*point), rtol=1e-6)
        assert str(cell.observable_unit.values) == "GHz" and float(cell.value) == point[i]


def test_nothing_is_said_of_a_state_that_is_not_valid(monkeypatch):
    monkeypatch.setattr(nrjax.maps.sensitivities, "steady_state", lambda *a, **k: steady_state(*a, max_steps=1, **k))
    assert_refused(lambda: sensitivity(hanai2025_bilayer(0.05, 6.0)), ["no valid steady state"])


@pytest.mark.long
@pytest.mark.parametrize("field", [[0.0, 0.0, 0.3]])
def test_names_of_fields_and_anisotropies(field):
    twist = DzyaloshinskiiMoriya.reciprocal(2, {(0, 1): (0.0, 0.0, 0.5)})
    table = sensitivity(hanai2025_bilayer(0.0, 5.0, field=field, anisotropy=[0.1, 0.2], terms=(twist,))).relative
    names = [str(p) for p in table.parameter.values]
    assert "DzyaloshinskiiMoriya_vectors ABz" in names
    assert {"field Az", "field Bz", "anisotropy_strength B", "anisotropy_axis x"} <= set(names)
    row = table.sel(observable="chase_frequency")
    assert np.isnan(row).all()
    # Collinear moments enclose no angle, and a small change of a parameter makes none.
    assert not sensitivity(hanai2025_bilayer(0.0, 5.0, field=field)).sel(observable="angle").absolute.values.any()
    # A field along the moments makes them longer.
    assert float(table.sel(observable="length B", parameter="field Bz")) > 0
