"""How close the race between the leading configs is, and what one more run of each of them would be worth.

Beliefs about the configs' true scores are normal, N(m_i, v_i): the world model's where it is usable, else m_i is the
mean of the config's n_i runs and v_i = s^2 / n_i, with s the spread between repeats. One more run of i moves m_i by a
normal step of standard deviation t_i = v_i / sqrt(v_i + s^2), and so raises the expected score of the config that is
chosen in the end by

    worth_i = t_i f(-|m_i - max_{j != i} m_j| / t_i),   f(z) = phi(z) + z Phi(z)

(the knowledge gradient for independent beliefs: Frazier, Powell and Dayanik 2008, section 3). For the config that
stands first, max_j m_j - m_1 is added: what the study loses while a lucky run is its champion.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from windlass.agents.candidates import Leader, leaders
from windlass.agents.situation import Situation
from windlass.records.content import digest
from windlass.records.ranking import repeat_noise

RACERS = 12  #: leading configs that are looked at
MATERIAL = 0.02  #: noise below this share of what parts the best quarter of the scores is worth no run
WORTHWHILE = 0.05  #: what a run has to be worth, in units of the noise
PROBES = 2  #: repeats that may fail before one has told the noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """The leading configs, and the one of which another run is worth most."""

    candidate: Leader
    runs: int  #: of the candidate's config so far
    worth: float  #: expected gain of one more run of it, in units of the score
    leader: Leader  #: by what is believed of its true score
    rival: Leader  #: the next best
    chance: float  #: that the rival is really better
    noise_sd: float  #: of the score between runs of one config
    measured: bool  #: by repeats; else it is the world model's estimate

    @property
    def worthwhile(self) -> bool:
        return self.worth >= WORTHWHILE * self.noise_sd


def race(situation: Situation, taken: Collection[str] = ()) -> Race | None:
    """The race as it stands, or None where another run of a leader could tell nothing.

    That is: fewer than two configs with a result; no noise (repeats that came back equal settle it) or none that
    matters beside what parts the best quarter of the scores; a first repeat still under way; or ``Study.repeats``
    runs of each leader.
    ``taken``: first runs of configs that get another run already.
    """
    study, progress = situation.study, situation.lessons.progress
    field = leaders(situation, RACERS) if study.repeats > 1 else []
    if len(field) < 2:
        return None
    noise = measured = repeat_noise(study, situation.runs)
    if measured is None:
        if taken or _probing(situation):
            return None
        noise = situation.world.noise_sd if situation.world.usable else None
    scores = [standing.mean for standing in progress.standings]
    if noise is None or not 0 < noise < math.inf or noise < MATERIAL * (max(scores) - float(np.quantile(scores, 0.75))):
        return None
    mean, sd = _beliefs(situation, field, noise)
    best, second = np.argsort(-mean, kind="stable")[:2]
    decided = Counter(digest(decision.config) for decision in situation.decided if decision.config)
    found: list[Race] = []
    for i, one in enumerate(field):
        run, others = one.standing.run, float(np.delete(mean, i).max())
        lucky = max(0.0, others - float(mean[i])) if one.rank == 1 else 0.0
        runs = max(decided[run.fingerprints.get("config") or digest(run.config)], len(one.standing.runs))
        if runs < study.repeats and run.id not in taken:
            found.append(
                Race(
                    candidate=one,
                    runs=runs,
                    worth=_worth(float(mean[i]), float(sd[i]), others, noise) + lucky,
                    leader=field[best],
                    rival=field[second],
                    chance=float(ndtr((mean[second] - mean[best]) / math.hypot(sd[best], sd[second]))),
                    noise_sd=noise,
                    measured=measured is not None,
                )
            )
    return max(found, key=lambda one: one.worth, default=None)


def _probing(situation: Situation) -> bool:
    """Whether a repeat is under way, or so many came to nothing that there is no point in another."""
    ended = {run.id for run in situation.runs if run.status.terminal}
    repeats = [d for d in situation.decided if d.proposal.repeats is not None and d.run_id is not None]
    return len(repeats) >= PROBES or any(decision.run_id not in ended for decision in repeats)


def _beliefs(
    situation: Situation, field: Sequence[Leader], noise: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and spread of each config's true score."""
    if situation.world.usable:
        mean, sd = situation.world.expected_score([one.values for one in field])
        if np.isfinite(mean).all() and np.isfinite(sd).all():
            return mean, np.maximum(sd, 1e-12)
    return (
        np.array([one.standing.mean for one in field]),
        np.array([noise / math.sqrt(len(one.standing.runs)) for one in field]),
    )


def _worth(mean: float, sd: float, others: float, noise: float) -> float:
    step = sd * sd / math.hypot(sd, noise)
    z = -abs(mean - others) / step
    return float(step * (math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) + z * ndtr(z)))
