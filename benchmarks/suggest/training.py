"""Small real trainings on the data sets that come with scikit-learn: one flat config in, one number to minimise out."""

from __future__ import annotations

import math
import warnings
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from functions import Crash, Values

from windlass.records.run import FailureKind

Array = npt.NDArray[Any]


@cache
def data(name: str) -> tuple[Array, Array]:
    """Standardised features, shape (rows, columns), and targets; in a fixed random order."""
    from sklearn import datasets

    features, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(target))
    features, target = features[order], target[order]
    return (features - features.mean(0)) / (features.std(0) + 1e-9), target


def two_folds(model: Any, features: Array, target: Array) -> float:
    """Mean error of a classifier on each half when it is fitted on the other."""
    even = np.arange(len(target)) % 2 == 0
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for train in (~even, even):
            errors.append(1 - model.fit(features[train], target[train]).score(features[~train], target[~train]))
    return float(np.mean(errors))


def svm_digits(v: Values) -> float:
    from sklearn.svm import SVC

    features, target = data("digits")
    features, target = features[:500], target[:500]
    match v["scale"]:
        case "half":
            features = np.sign(features) * np.sqrt(np.abs(features))
        case "unit":
            features = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-9)
    own = {name: v[name] for name in ("C", "kernel", "gamma", "degree", "coef0", "tol") if name in v}
    return two_folds(SVC(max_iter=3000, **own), features, target)


def pipeline_digits(v: Values) -> float:
    """A reduction, then a classifier; either has parameters of its own."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    features, target = data("digits")
    features, target = features[600:1100], target[600:1100]
    match v["reduce"]:
        case "pca":
            steps: list[Any] = [PCA(v["components"], whiten=v["whiten"], random_state=0)]
        case "select":
            steps = [SelectKBest(f_classif, k=v["columns"])]
        case _:
            steps = []
    match v["model"]:
        case "knn":
            steps.append(KNeighborsClassifier(v["neighbours"], weights=v["weights"], p=v["power"]))
        case "ridge":
            steps.append(RidgeClassifier(alpha=v["alpha"]))
        case _:
            steps.append(LinearDiscriminantAnalysis(solver="lsqr", shrinkage=v["shrinkage"]))
    return two_folds(make_pipeline(*steps), features, target)


def crash_boosting(v: Values) -> float:
    """Gradient boosting on the diabetes data: fails where it is too large or too slow, and where it diverges."""
    from sklearn.ensemble import GradientBoostingRegressor

    if v["trees"] * 2 ** v["depth"] > 4000:
        raise Crash(FailureKind.OUT_OF_MEMORY)
    if v["trees"] * v["depth"] * v["subsample"] > 350:
        raise Crash(FailureKind.TIMEOUT)
    if v["loss"] == "quantile" and v["min_leaf"] * 3 > 200 * v["subsample"]:
        raise Crash(FailureKind.ERROR)
    features, target = data("diabetes")
    own = {"alpha": v["alpha"]} if "alpha" in v else {}
    model = GradientBoostingRegressor(
        n_estimators=v["trees"],
        max_depth=v["depth"],
        learning_rate=v["rate"],
        subsample=v["subsample"],
        min_samples_leaf=v["min_leaf"],
        loss=v["loss"],
        max_features=v["columns"],
        random_state=0,
        **own,
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = model.fit(features[:250], target[:250]).predict(features[250:])
        error = float(np.sqrt(np.mean((predicted - target[250:]) ** 2)))
    if not error < 250:
        raise Crash(FailureKind.DIVERGED)
    return math.log(error)


def sgd_digits(v: Values, seed: int) -> float:
    """Error of a linear model after a few passes of SGD; order and start are the seed's."""
    from sklearn.linear_model import SGDClassifier

    features, target = data("digits")
    own = {name: v[name] for name in ("l1_ratio", "power_t") if name in v}
    model = SGDClassifier(
        loss=v["loss"],
        penalty=v["penalty"],
        alpha=v["alpha"],
        learning_rate=v["schedule"],
        eta0=v["eta0"],
        average=v["average"],
        max_iter=v["passes"],
        tol=None,
        random_state=seed,
        **own,
    )
    rows = np.random.default_rng(seed).choice(600, 150, replace=False)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(features[rows], target[rows])
        except ValueError:  # scikit-learn's own word for weights that overflowed
            return 0.9
    return float(1 - model.score(features[900:1500], target[900:1500]))


class Network:
    """A multilayer perceptron in numpy that really diverges when its settings say so."""

    def __init__(self, v: Values, seed: int = 0) -> None:
        self.v, self.rng = v, np.random.default_rng(seed)
        features, self.labels = data("digits")
        self.features = features.astype(np.float32)
        sizes = [64] + [v["width"]] * v["depth"] + [10]
        gain = {"relu": 2.0, "tanh": 1.0, "gelu": 1.7}[v["act"]]
        self.weights = [
            self.rng.normal(0, v["init"] * math.sqrt(gain / a), (a, b)).astype(np.float32) for a, b in pairwise(sizes)
        ]
        self.biases = [np.zeros(b, np.float32) for b in sizes[1:]]
        self.first = [np.zeros_like(one) for one in self.weights + self.biases]
        self.second = [np.zeros_like(one) for one in self.weights + self.biases]
        self.steps = 0

    def _activate(self, h: Array) -> tuple[Array, Array]:
        match self.v["act"]:
            case "relu":
                return np.maximum(h, 0), (h > 0).astype(np.float32)
            case "tanh":
                t = np.tanh(h)
                return t, 1 - t * t
            case _:
                s = 1 / (1 + np.exp(-np.clip(1.702 * h, -30, 30)))
                return h * s, s + 1.702 * h * s * (1 - s)

    def _forward(self, x: Array) -> tuple[list[Array], list[Array], Array]:
        values, slopes = [x], []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value, slope = self._activate(values[-1] @ weight + bias)
            values.append(value)
            slopes.append(slope)
        z = values[-1] @ self.weights[-1] + self.biases[-1]
        e = np.exp(z - z.max(1, keepdims=True))
        return values, slopes, e / e.sum(1, keepdims=True)

    def epoch(self) -> float:
        """One pass over 600 rows; the loss on 600 others, infinite when it is no number."""
        batch = self.v["batch"]
        order = self.rng.permutation(600)
        for start in range(0, 600 - batch + 1, batch):
            rows = order[start : start + batch]
            values, slopes, g = self._forward(self.features[rows])
            g[np.arange(batch), self.labels[rows]] -= 1
            g /= batch
            gradients: list[Array] = []
            for layer in reversed(range(len(self.weights))):
                gradients[:0] = [values[layer].T @ g, g.sum(0)]
                if layer:
                    g = (g @ self.weights[layer].T) * slopes[layer - 1]
            self._step(gradients[::2] + gradients[1::2])
        chances = self._forward(self.features[600:1200])[2][np.arange(600), self.labels[600:1200]]
        loss = float(np.mean(-np.log(np.maximum(chances, 1e-12))))
        return loss if math.isfinite(loss) else math.inf

    def _step(self, gradients: list[Array]) -> None:
        self.steps += 1
        for j, (weight, gradient) in enumerate(zip(self.weights + self.biases, gradients, strict=True)):
            if self.v["optim"] == "adam":
                self.first[j] += 0.1 * (gradient - self.first[j])
                self.second[j] += 0.01 * (gradient * gradient - self.second[j])
                scale = np.sqrt(self.second[j] / (1 - 0.99**self.steps)) + 1e-8
                move = (self.first[j] / (1 - 0.9**self.steps)) / scale
            else:
                self.first[j] = 0.9 * self.first[j] + gradient
                move = self.first[j]
            weight -= self.v["lr"] * (move + self.v["wd"] * weight)


def network_loss(v: Values, seed: int = 0, epochs: int = 5) -> float:
    """Log of the validation loss after ``epochs``, a diverged one counted as 20."""
    with np.errstate(all="ignore"):
        network = Network(v, seed)
        loss = math.inf
        for _ in range(epochs):
            loss = network.epoch()
            if not loss <= 20:
                break
    return math.log(min(loss, 20.0) + 1e-3)


def noisy_network_loss(v: Values, seed: int) -> float:
    return network_loss(v, seed, epochs=2)


def crash_network_loss(v: Values) -> float:
    """The same, where a large network runs out of memory and a loss above 5 is a divergence."""
    if v["batch"] * v["width"] * v["depth"] > 9000:
        raise Crash(FailureKind.OUT_OF_MEMORY)
    with np.errstate(all="ignore"):
        network = Network(v)
        for _ in range(5):
            loss = network.epoch()
            if not loss <= 5:
                raise Crash(FailureKind.DIVERGED)
    return math.log(loss + 1e-3)
