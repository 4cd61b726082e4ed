"""The shape of what the trainer is told: options of the data, and parameters grouped by model family.

The groups of families that were not chosen are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from windlass.records.options import Strict, read
from windlass.records.options import parameter_names as names_in

Task = Literal["classification", "regression"]
Family = Literal["logistic", "ridge", "svm", "forest", "boosting", "mlp"]
FAMILIES: Mapping[Task, tuple[Family, ...]] = {
    "classification": ("logistic", "svm", "forest", "boosting", "mlp"),
    "regression": ("ridge", "svm", "forest", "boosting", "mlp"),
}
#: data set -> its task and its files inside scikit-learn
BUNDLED: Mapping[str, tuple[Task, tuple[str, ...]]] = {
    "breast_cancer": ("classification", ("breast_cancer.csv",)),
    "digits": ("classification", ("digits.csv.gz",)),
    "wine": ("classification", ("wine_data.csv",)),
    "diabetes": ("regression", ("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz")),
}

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Options(Strict):
    """``trainer.options`` of a study; in a config they are the group ``workload``."""

    dataset: Literal["breast_cancer", "digits", "wine", "diabetes"] | None = None
    data: str | None = Field(
        default=None, description="path of a .csv, .tsv or .parquet file, relative to the study file"
    )
    target: str | None = Field(default=None, description="the column to predict; needed with 'data'")
    task: Literal["auto", "classification", "regression"] = "auto"
    drop: tuple[str, ...] = Field(default=(), description="columns to leave out, for example identifiers")
    positive: bool | int | str | None = Field(
        None, description="the class that sensitivity is about; default: the last"
    )
    validation_fraction: float = Field(default=0.2, gt=0, lt=1)
    test_fraction: float = Field(default=0.2, gt=0, lt=1)
    split_seed: int = Field(
        0, ge=0, lt=2**32, description="the same for all runs, so that they share one validation set"
    )
    final: bool = Field(default=False, description="evaluate on the test part as well, as metrics test_*")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.dataset is None) == (self.data is None):
            raise ValueError("give exactly one of 'dataset' and 'data'")
        if self.data is not None and self.target is None:
            raise ValueError("'data' needs 'target', the column to predict")
        if self.dataset is not None and (self.target is not None or self.drop or self.task != "auto"):
            raise ValueError("'target', 'drop' and 'task' go with 'data'; a bundled data set has its own")
        if self.target in self.drop:
            raise ValueError(f"'drop' names the target {self.target!r}")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g}"
                " leave nothing to train on"
            )
        return self


class Logistic(Strict):
    C: Positive = 1.0  #: inverse strength of the L2 penalty


class Ridge(Strict):
    alpha: Positive = 1.0  #: strength of the L2 penalty


class Svm(Strict):
    C: Positive = 1.0
    kernel: Literal["rbf", "linear"] = "rbf"
    gamma: Positive = 0.01  #: of the rbf kernel, on standardised features


class Forest(Strict):
    trees: Count = 100
    depth: Count = 16
    min_leaf: Count = 1  #: training rows in a leaf, at least
    features: Share = 0.3  #: of the features, tried at each split


class Boosting(Strict):
    learning_rate: Positive = 0.1
    iterations: Count = 60
    leaves: int = Field(default=15, ge=2)
    min_leaf: Count = 20
    l2: float = Field(default=0.0, ge=0)


class Mlp(Strict):
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 0.003
    width: Count = 64
    layers: int = Field(default=1, ge=1, le=8)
    alpha: float = Field(default=1e-4, ge=0, le=10)  #: strength of the L2 penalty
    batch: Count = 64
    epochs: Count = 40  #: at most; ends early after ``patience`` epochs without a lower validation loss
    patience: Count = 8


class Config(Strict):
    """A run's config: options, the family, and each family's parameters."""

    workload: Options
    model: Family = "boosting"
    balanced: bool = Field(default=False, description="weight rows so that every class counts the same")
    logistic: Logistic = Logistic()
    ridge: Ridge = Ridge()
    svm: Svm = Svm()
    forest: Forest = Forest()
    boosting: Boosting = Boosting()
    mlp: Mlp = Mlp()


def read_config(config: Mapping[str, Any]) -> Config:
    """Raises StudyError that names the parameter."""
    return read(Config, config, "config")


def read_options(options: Mapping[str, Any]) -> Options:
    """Raises StudyError that names the option."""
    return read(Options, options, "trainer.options")


def parameter_names() -> tuple[str, ...]:
    """All flat names that the trainer reads, the options apart."""
    return names_in(Config)
