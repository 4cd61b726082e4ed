"""The families: how each is built, fitted with a learning curve, and saved without pickle.

All get the same standardised, gap-free matrix from :func:`preprocessor`. Class probabilities of the SVM are calibrated
on out-of-fold decisions within the training part: Platt's sigmoid for two classes, for more a temperature over the
margins of each class against the rest (on digits a log loss of 0.09 where one-against-one votes give 0.27).
"""

from __future__ import annotations

import copy
import math
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils.class_weight import compute_sample_weight

from windlass.errors import DataError, Diverged
from windlass.workloads.tabular.data import Floats, Table
from windlass.workloads.tabular.spec import FAMILIES, Config, Task

RARE = 5  #: categories with fewer training rows share one column
MAX_CATEGORIES = 50  #: columns from one categorical column, at most
GROWTH_STEPS = 10  #: points of a forest's or boosting's learning curve
CALIBRATION_FOLDS = 3
MAX_LINEAR_ITERATIONS = 2_000
MAX_SVM_ITERATIONS = 500_000
#: an MLP has diverged when its training loss is this many times that of the best constant prediction
DIVERGED = 10.0

#: what a saved model may hold beside skops' own list: fitted parts of scikit-learn, none runs code when loaded
TRUSTED = (
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.tree._tree.Tree",
)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Preprocessed rows: ``x`` is (n, d), ``y`` is (n,) class positions or numbers."""

    x: Floats
    y: npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One point of a learning curve: ``predicted`` is for the validation rows, see :func:`predict`."""

    step: int  #: epochs, trees or iterations so far
    predicted: Floats
    train_loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a family needs to know beside its parameters."""

    train: Sample
    validation: Sample
    classes: npt.NDArray[Any]  #: (K,); empty for regression
    seed: int
    report: Callable[[Stage], None]  #: called at each point of the learning curve, in order
    note: Callable[[str], None]
    weights: Floats | None  #: (n,) of the training rows

    @property
    def classification(self) -> bool:
        return len(self.classes) > 0

    @property
    def labels(self) -> npt.NDArray[Any]:
        """The training target as estimators see it, so that the saved model predicts the user's own labels."""
        return self.classes[self.train.y] if self.classification else self.train.y

    def loss(self, predicted: Floats) -> float:
        """Log loss or mean squared error on the validation rows; infinite where a prediction is not finite."""
        if not np.isfinite(predicted).all():
            return math.inf
        if self.classification:
            return float(log_loss(self.validation.y, predicted, labels=np.arange(len(self.classes))))
        return float(mean_squared_error(self.validation.y, predicted))


def preprocessor(table: Table) -> ColumnTransformer:
    """Numbers: median for missing, with an indicator column. Categories: one column each, unknown ones as rare."""
    number = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler()
    )
    category = make_pipeline(
        OneHotEncoder(
            handle_unknown="infrequent_if_exist",
            min_frequency=RARE,
            max_categories=MAX_CATEGORIES,
            sparse_output=False,
        ),
        StandardScaler(),
    )
    return ColumnTransformer(
        [("numeric", number, list(table.numeric)), ("categorical", category, list(table.categorical))]
    )


def balanced_weights(sample: Sample, table: Table) -> Floats:
    """(n,) row weights with which every class has the same total. Raises DataError for regression."""
    if table.task == "regression":
        raise DataError("'balanced' weights classes; regression has none", "balanced: false")
    return np.asarray(compute_sample_weight("balanced", sample.y), dtype=np.float64)


def fit(config: Config, problem: Problem) -> Any:
    """The fitted estimator of ``config.model``; its learning curve goes to ``problem.report``.

    Raises DataError where the family does not serve the task, Diverged where training did.
    """
    task: Task = "classification" if problem.classification else "regression"
    if config.model not in FAMILIES[task]:
        raise DataError(f"model {config.model!r} does not serve {task}", f"Models: {', '.join(FAMILIES[task])}")
    fit_family: Callable[[Config, Problem], Any] = {
        "logistic": _fit_linear,
        "ridge": _fit_linear,
        "svm": _fit_svm,
        "forest": _fit_forest,
        "boosting": _fit_boosting,
        "mlp": _fit_mlp,
    }[config.model]
    return fit_family(config, problem)


def predict(estimator: Any, x: Any, classification: bool) -> Floats:
    """(n, K) class probabilities in the order of the sorted classes, or (n,) numbers."""
    return np.asarray(estimator.predict_proba(x) if classification else estimator.predict(x), dtype=np.float64)


def save(model: Pipeline, path: Path, x: Any, expected: Floats, classification: bool) -> None:
    """Write with skops, load back, and only then give it its name: a saved model predicts what this one does.

    Raises DataError where the loaded model predicts anything else on ``x``.
    """
    beside = path.with_name(f".{path.name}.part")
    skops.io.dump(model, beside, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    if not np.array_equal(predict(load(beside), x, classification), expected):
        raise DataError(f"the model does not survive saving: {beside} predicts otherwise than the fitted one")
    beside.rename(path)


def load(path: Path) -> Pipeline:
    """The saved pipeline: raw columns in, labels, probabilities or numbers out. Refuses types that are not TRUSTED."""
    return skops.io.load(path, trusted=list(TRUSTED))


def _fit_once(estimator: Any, problem: Problem) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(problem.train.x, problem.labels, sample_weight=problem.weights)
    for text in dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught):
        problem.note(f"{type(estimator).__name__}: {text}")
    problem.report(Stage(step=1, predicted=predict(estimator, problem.validation.x, problem.classification)))
    return estimator


def _fit_linear(config: Config, problem: Problem) -> Any:
    if not problem.classification:
        return _fit_once(Ridge(alpha=config.ridge.alpha, random_state=problem.seed), problem)
    return _fit_once(LogisticRegression(C=config.logistic.C, max_iter=MAX_LINEAR_ITERATIONS), problem)


def _fit_svm(config: Config, problem: Problem) -> Any:
    shared = {"C": config.svm.C, "kernel": config.svm.kernel, "gamma": config.svm.gamma, "max_iter": MAX_SVM_ITERATIONS}
    if not problem.classification:
        return _fit_once(TransformedTargetRegressor(SVR(**shared), transformer=StandardScaler()), problem)
    folds = StratifiedKFold(CALIBRATION_FOLDS, shuffle=True, random_state=problem.seed)
    if len(problem.classes) == 2:
        return _fit_once(CalibratedClassifierCV(SVC(**shared), method="sigmoid", cv=folds, ensemble=False), problem)
    # row weights do not pass through OneVsRestClassifier; balancing each class against the rest has the same end
    machine = OneVsRestClassifier(SVC(**shared, class_weight="balanced" if config.balanced else None), n_jobs=1)
    calibrated = CalibratedClassifierCV(machine, method="temperature", cv=folds, ensemble=False)
    return _fit_once(calibrated, replace(problem, weights=None))


def _fit_forest(config: Config, problem: Problem) -> Any:
    family = RandomForestClassifier if problem.classification else RandomForestRegressor
    estimator = family(
        max_depth=config.forest.depth,
        min_samples_leaf=config.forest.min_leaf,
        max_features=config.forest.features,
        n_jobs=1,
        random_state=problem.seed,
        warm_start=True,
    )
    return _grow(estimator, "n_estimators", config.forest.trees, problem)


def _fit_boosting(config: Config, problem: Problem) -> Any:
    family = HistGradientBoostingClassifier if problem.classification else HistGradientBoostingRegressor
    estimator = family(
        learning_rate=config.boosting.learning_rate,
        max_leaf_nodes=config.boosting.leaves,
        min_samples_leaf=config.boosting.min_leaf,
        l2_regularization=config.boosting.l2,
        early_stopping=False,
        random_state=problem.seed,
        warm_start=True,
    )
    return _grow(estimator, "max_iter", config.boosting.iterations, problem)


def _grow(estimator: Any, size: str, goal: int, problem: Problem) -> Any:
    """Fit an ensemble to ``goal`` members in steps, each going on from the last."""
    for step in sorted({math.ceil(goal * part / GROWTH_STEPS) for part in range(1, GROWTH_STEPS + 1)}):
        estimator.set_params(**{size: step}).fit(problem.train.x, problem.labels, sample_weight=problem.weights)
        problem.report(Stage(step=step, predicted=predict(estimator, problem.validation.x, problem.classification)))
    return estimator


def _fit_mlp(config: Config, problem: Problem) -> Any:
    """Epoch by epoch; ends after ``patience`` epochs without a lower validation loss, with the best epoch's weights."""
    settings, train = config.mlp, problem.train
    family = MLPClassifier if problem.classification else MLPRegressor
    estimator = family(
        hidden_layer_sizes=(settings.width,) * settings.layers,
        solver=settings.optimizer,
        learning_rate_init=settings.learning_rate,
        alpha=settings.alpha,
        batch_size=min(settings.batch, len(train.y)),
        # an int would restart the generator at every partial_fit: the same order of rows in all epochs
        random_state=np.random.RandomState(problem.seed),
    )
    center, scale = (0.0, 1.0) if problem.classification else (float(train.y.mean()), float(train.y.std()))
    labels = problem.labels if problem.classification else (train.y - center) / scale
    first = {"classes": problem.classes} if problem.classification else {}
    reference = _constant_loss(problem)
    best_loss, best_epoch, best_weights = math.inf, 0, None
    for epoch in range(1, settings.epochs + 1):
        train_loss = _epoch(estimator, train.x, labels, problem.weights, first)
        if not math.isfinite(train_loss) or (epoch > 1 and train_loss > DIVERGED * reference):
            raise Diverged(
                f"the training loss is {train_loss:.4g} after epoch {epoch} with learning rate"
                f" {settings.learning_rate:g} ({settings.optimizer}); a constant prediction has {reference:.4g}"
            )
        predicted = predict(estimator, problem.validation.x, problem.classification) * scale + center
        problem.report(Stage(step=epoch, predicted=predicted, train_loss=train_loss))
        loss = problem.loss(predicted)
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best_weights = copy.deepcopy((estimator.coefs_, estimator.intercepts_))
        elif epoch - best_epoch >= settings.patience:
            break
    if best_weights is None:
        raise Diverged(f"no epoch of {settings.epochs} gave a finite validation loss")
    estimator.coefs_, estimator.intercepts_ = best_weights
    if not problem.classification:  # the output layer is linear: fold the target's scale into it
        estimator.coefs_[-1] *= scale
        estimator.intercepts_[-1] = estimator.intercepts_[-1] * scale + center
    return _without_training_state(estimator, problem.seed)


def _epoch(
    estimator: Any, x: Floats, labels: npt.NDArray[Any], weights: Floats | None, first: dict[str, npt.NDArray[Any]]
) -> float:
    """One pass over the training rows; the mean loss on the way, penalty included. NaN when the weights overflowed."""
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            estimator.partial_fit(x, labels, sample_weight=weights, **first)
        except ValueError:
            if all(np.isfinite(weight).all() for weight in estimator.coefs_ + estimator.intercepts_):
                raise
            return math.nan
    return float(estimator.loss_)


def _constant_loss(problem: Problem) -> float:
    """Of the best constant prediction: entropy of the class shares, or half the variance of a standardised target."""
    if not problem.classification:
        return 0.5
    shares = np.bincount(problem.train.y, weights=problem.weights, minlength=len(problem.classes))
    shares = shares / shares.sum()
    return float(-(shares * np.log(shares)).sum())


def _without_training_state(estimator: Any, seed: int) -> Any:
    """The optimiser's moments are two thirds of a saved MLP, and no prediction needs them."""
    estimator.set_params(random_state=seed)
    for name in ("_optimizer", "_random_state"):
        delattr(estimator, name)
    return estimator
