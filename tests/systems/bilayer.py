"""The bilayer in plain NumPy: its equation of motion, free energy, chiral and collinear states."""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import fsolve


@dataclass(frozen=True)
class Bilayer:
    exchange: np.ndarray = field(default_factory=lambda: np.array([[10.0, 5.0], [5.0, 5.0]]))
    damping: np.ndarray = field(default_factory=lambda: np.array([0.1, 2e-3]))
    sd_coupling: np.ndarray = field(default_factory=lambda: np.array([-10.0, -10.0]))
    loss_rate: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0]))
    filling: np.ndarray = field(default_factory=lambda: np.array([1.0, 1.0]))
    temperature: np.ndarray = field(default_factory=lambda: np.array([9.0, 9.0]))
    mediated: np.ndarray | None = None
    gyro: float = 2.0

    def with_light(self, gamma_b: float, j_ab: float) -> "Bilayer":
        exchange = np.array([[10.0, j_ab], [j_ab, 5.0]])
        return replace(self, exchange=exchange, loss_rate=np.array([0.0, gamma_b]))

    @property
    def light_exchange(self) -> np.ndarray:
        return self.exchange if self.mediated is None else self.mediated

    @property
    def torques(self) -> np.ndarray:
        """w: W without relaxation."""
        light = 2.0 * self.loss_rate / self.sd_coupling
        return 2.0 * self.damping[:, None] * self.exchange + light[:, None] * self.light_exchange

    def relabelled(self) -> "Bilayer":
        """The same with A called B, and B called A."""
        layers = {
            name: getattr(self, name)[::-1] for name in "damping sd_coupling loss_rate filling temperature".split()
        }
        return replace(self, exchange=self.exchange[::-1, ::-1], mediated=self.light_exchange[::-1, ::-1], **layers)

    def phi(self, h: np.ndarray) -> np.ndarray:
        """Of the fields on both layers."""
        h = np.maximum(np.abs(h), 1e-9)
        return h / np.tanh(h / self.temperature)

    def velocity(self, m: np.ndarray) -> np.ndarray:
        result = np.zeros_like(m)
        h, light = self.exchange @ m, self.light_exchange @ m
        phi = self.phi(np.linalg.norm(h, axis=1))
        for a in range(len(m)):
            result[a] += self.gyro * np.cross(m[a], h[a])
            result[a] += 2.0 * self.damping[a] * (h[a] - phi[a] * m[a])
            result[a] += self.loss_rate[a] * (2.0 * light[a] / self.sd_coupling[a] - self.filling[a] * m[a])
        return result

    def rates(self, a: float, b: float, cosine: float) -> np.ndarray:
        """W for lengths a, b and angle."""
        j = self.exchange
        h = np.sqrt(
            [j[c, 0] ** 2 * a**2 + 2 * j[c, 0] * j[c, 1] * a * b * cosine + j[c, 1] ** 2 * b**2 for c in range(2)]
        )
        r = 2.0 * self.damping * self.phi(h) + self.loss_rate * self.filling
        return self.torques - np.diag(r)

    def chiral(self, guess: tuple[float, float] = (0.35, -0.5)) -> tuple[float, float, float, float, float]:
        """(m_A, m_B, cos, omega_c, Omega) of the chiral state next to the guess (m_A, cos)."""
        w, j = self.torques, self.exchange
        ratio = np.sqrt(-w[1, 0] / w[0, 1])

        def equations(x: np.ndarray) -> list[float]:
            a, cosine = x
            w = self.rates(a, ratio * a, cosine)
            return [np.trace(w), w[0, 0] + w[0, 1] * ratio * cosine]

        (a, cosine), _, status, message = fsolve(equations, guess, xtol=1e-14, full_output=True)
        assert status == 1 or np.abs(equations(np.array([a, cosine]))).max() < 1e-13, message
        b = ratio * a
        chase = np.sqrt(np.linalg.det(self.rates(a, b, cosine)))
        k = self.gyro * np.sqrt((j[1, 0] * a) ** 2 + (j[0, 1] * b) ** 2 + 2 * j[1, 0] * j[0, 1] * a * b * cosine)
        return a, b, cosine, chase, np.hypot(chase, k)

    def collinear(self, guess: tuple[float, float]) -> tuple[float, float]:
        """Signed lengths (a, b) next to the guess."""

        def equations(x: np.ndarray) -> np.ndarray:
            a, b = x
            w = self.rates(abs(a), abs(b), np.sign(a * b))
            return w @ x

        x, _, status, message = fsolve(equations, guess, xtol=1e-14, full_output=True)
        assert status == 1 or np.abs(equations(x)).max() < 1e-13, message
        return float(x[0]), float(x[1])

    def free_energy(self, m: np.ndarray) -> float:
        length = np.linalg.norm(m, axis=1)
        up, down = (1 + length) / 2, (1 - length) / 2
        entropy = -(up * np.log(up) + down * np.log(down))
        return -0.5 * np.einsum("ab,ai,bi->", self.exchange, m, m) - self.temperature @ entropy


# Nothing is equal in it that may differ: both layers are lit, j_AB is not j_BA, and only a part of the exchange is
# mediated. It is chiral; relabelled, the chase goes the other way round.
UNEQUAL = Bilayer(
    exchange=np.array([[10.0, 7.0], [5.0, 5.0]]),
    mediated=np.array([[8.0, 5.5], [4.5, 4.0]]),
    damping=np.array([0.1, 0.003]),
    sd_coupling=np.array([-10.0, -8.0]),
    loss_rate=np.array([0.01, 0.05]),
    filling=np.array([0.9, 1.1]),
    temperature=np.array([9.0, 8.5]),
)
