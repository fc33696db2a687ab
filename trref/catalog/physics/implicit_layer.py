"""What is known of `trref.physics.implicit_layer`."""

import dataclasses

import numpy as np

from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.physics.equations import EQUATION, stationarity
from trref.physics.implicit_layer import (
    constrained_loss,
    implicit_gradient,
    root_gradient,
)


def _solved_again(equation, basis, weights, output_gradient, rows, *, ridge=1e-4):
    """Each entry of the basis moved along the imaginary axis, and the weights taken along by one of Newton's steps."""
    h = 1e-30

    def slope(w, B):
        return stationarity(equation, B, w, rows, ridge)[2].imag / h

    second = np.array(
        [slope(weights + h * 1j * e, basis) for e in np.eye(len(weights))]
    )
    gradient = np.zeros(basis.shape)
    for i, j in np.ndindex(*basis.shape):
        B = basis.astype(complex)
        B[i, j] += h * 1j
        dw = -np.linalg.solve(second.T, slope(weights, B))
        gradient[i, j] = output_gradient[i] * weights[j] + output_gradient @ (
            basis @ dw
        )
    return gradient


def _least_norm(equation, basis, weights, output_gradient, rows, *, ridge=1e-4):
    """Each entry's change of the weights, by least squares on the rows and the ridge."""
    _, J, _ = stationarity(equation, basis, weights, rows, ridge)
    u = basis @ weights
    K = equation.linear + 2 * equation.quadratic * u + 3 * equation.cubic * u**2
    stacked = np.concatenate([J, ridge * np.eye(len(weights))])
    gradient = np.zeros(basis.shape)
    for i, j in np.ndindex(*basis.shape):
        moved = rows * K[:, i] * weights[j]
        right = -np.concatenate([moved, np.zeros(len(weights))])
        dw = np.linalg.lstsq(stacked, right, rcond=None)[0]
        gradient[i, j] = output_gradient[i] * weights[j] + output_gradient @ (
            basis @ dw
        )
    return gradient


def _no_residual(inputs):
    """no row that the solve sees has a residual"""
    equation = inputs["equation"]
    residual = equation.residual(inputs["basis"] @ inputs["weights"])
    solved = dataclasses.replace(equation, source=equation.source - residual)
    return {**inputs, "equation": solved}


REFUSED = {
    "a large basis": {"basis": 1e5},
    "large weights": {"weights": 1e5},
    "a large gradient": {"output_gradient": 1e5},
}


METHOD = Method(
    key="chalapathi2024scaling",
    provenance={
        "confirmed": ("root", "loss"),
        "reconstructed": ("stationary", "adjoint", "gradient"),
    },
    functions=(
        Estimator(
            f=implicit_gradient,
            interface=EQUATION,
            brute_force=_solved_again,
            settings={"default": {"ridge": 0.1}, "probe": {"ridge": 0.4}},
            sizes=(4, 8, 12),
            limits=(
                Limit(
                    "implicit_layer.root_gradient",
                    {"ridge": 0.1},
                    {"ridge": 0.1},
                    where=_no_residual,
                ),
            ),
            refused=REFUSED,
        ),
        Estimator(
            f=root_gradient,
            interface=EQUATION,
            brute_force=_least_norm,
            settings={"default": {"ridge": 0.1}, "probe": {"ridge": 0.4}},
            sizes=(4, 8, 12),
            refused=REFUSED,
        ),
        Objective(
            f=constrained_loss,
            interface=EQUATION,
            wrt="basis",
            settings={
                "default": {"ridge": 0.01},
                "probe": {"ridge": 0.3, "steps": 12, "polish": 5},
            },
            tolerance=1e-12,
            sizes=(4, 7),
            seeds=(0,),
            refused={
                "a large basis": {"basis": 1e5},
                "large weights": {"w0": 1e5},
            },
        ),
    ),
)
