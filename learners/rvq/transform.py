"""Orthonormal transforms of whole chunks: an error of coefficients is the error of the signal (Parseval).

Shapes: N chunks of T steps, C = T A coefficients, numbered as (step or frequency, dimension), the latter fast.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

TransformName = Literal["klt", "dct"]


def dct_matrix(size: int) -> np.ndarray:
    """(T, T) float64: row k is the cosine of k half turns (DCT-II, orthonormal): coefficients = matrix @ signal."""
    step = np.arange(size)
    rows = np.cos(math.pi * np.outer(step, 2 * step + 1) / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


def dct(x_NTA: np.ndarray) -> np.ndarray:
    """Over time, each dimension for itself: (N, T, A) -> (N, T, A) by frequency."""
    return np.einsum("kt,nta->nka", dct_matrix(x_NTA.shape[1]), x_NTA)


def inverse_dct(f_NTA: np.ndarray) -> np.ndarray:
    return np.einsum("kt,nka->nta", dct_matrix(f_NTA.shape[1]), f_NTA)


def basis(x_NC: np.ndarray, name: TransformName, steps: int) -> np.ndarray:
    """(C, C) float64: coefficients = basis @ (chunk - mean), by energy, the largest first.

    "klt": the eigenvectors of the covariance, which no other transform packs more energy into as few coefficients as.
    "dct": cosines over time, whatever the data; only their order is measured.
    """
    centred = x_NC - x_NC.mean(0)
    if name == "klt":
        rows = np.linalg.eigh(centred.T @ centred / len(x_NC))[1].T[::-1]
        largest = np.abs(rows).argmax(1)
        return rows * np.sign(rows[np.arange(len(rows)), largest])[:, None]  # eigenvectors have no sign of their own
    rows = np.kron(dct_matrix(steps), np.eye(x_NC.shape[1] // steps))
    return rows[np.argsort(-np.square(centred @ rows.T).mean(0), kind="stable")]
