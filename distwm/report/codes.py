"""A world model over discrete codes: how well it predicts them, and which it uses."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from distwm.report.canvas import BLUE, SLATE, blank, quiet
from distwm.report.inputs import Arrays


def prediction(arrays: Arrays) -> Figure:
    """Error of codes and of rewards by the number of transitions predicted, beside guesses that know no state."""
    figure = blank(9.6, 3.0)
    codes, rewards = figure.subplots(1, 2)
    steps = arrays["horizon"]
    codes.plot(steps, arrays["error"], color=BLUE, marker="o", ms=3, label="world model")
    codes.plot(steps, arrays["marginal"], color=SLATE, marker="o", ms=3, label="guess by frequency")
    codes.set_title("error of the next codes")
    rewards.plot(steps, arrays["reward_error"], color=BLUE, marker="o", ms=3, label="world model")
    if "reward_spread" in arrays:
        rewards.axhline(float(arrays["reward_spread"]), color=SLATE, dashes=(4, 3), lw=1, label="guess of the mean")
    rewards.set_title("error of the reward (root mean square)")
    for ax in (codes, rewards):
        ax.set_xlabel("transitions ahead")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
        ax.legend()
        quiet(ax)
    return figure


def usage(arrays: Arrays) -> Figure:
    """The share of each code (down) in each latent dimension (across), the dimension with the most even use first."""
    shares = np.asarray(arrays["usage"], np.float64)  # (D, K)
    evenness = -np.sum(np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-12)), 0.0), 1)
    ordered = shares[np.argsort(-evenness)]
    figure = blank(9.6, 2.6)
    ax = figure.subplots()
    image = ax.imshow(ordered.T, aspect="auto", cmap="Blues", vmin=0, vmax=max(float(np.quantile(shares, 0.99)), 1e-6))
    figure.colorbar(image, ax=ax, label="share", pad=0.01)
    ax.set_xlabel("latent dimension")
    ax.set_ylabel("code")
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.grid(False)
    return figure
