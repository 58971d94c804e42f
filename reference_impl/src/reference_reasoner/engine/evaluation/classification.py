"""Scores and pictures of a classifier.

A row's `target` is the class as an int and its `output` the list of class probabilities.
Shapes: N rows, K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..training.task import ReportSection, Row
from .bootstrap import numbers
from .figures import ACCENT, new_figure, save_figure

_BINS = 10


def targets_and_probabilities(
    rows: Sequence[Row],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The class targets int64 [N] and the class probabilities float64 [N, K] of predictions."""
    return numbers(rows, _targets), numbers(rows, _probabilities)


def _targets(rows: Sequence[Row]) -> NDArray[np.int64]:
    return np.array([row.target for row in rows], dtype=np.int64)


def _probabilities(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row.output for row in rows], dtype=np.float64)


def confusion_matrix(rows: Sequence[Row]) -> NDArray[np.int64]:
    """The confusion matrix, counts int64 [K, K]: row = true class, column = predicted class."""
    targets, probabilities = targets_and_probabilities(rows)
    classes = probabilities.shape[1]
    pairs = targets * classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def precision_recall_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Precision, recall and F1 by class, float64 [3, K]; 0 where nothing is there to divide by."""
    right = counts.diagonal().astype(np.float64)
    precision = right / np.maximum(counts.sum(0), 1)
    recall = right / np.maximum(counts.sum(1), 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return np.stack([precision, recall, f1])


def calibration_bins(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The calibration of a classifier: count, mean confidence, accuracy of each bin, [3, bins]."""
    targets, probabilities = targets_and_probabilities(rows)
    return binned(probabilities.max(1), probabilities.argmax(1) == targets)


def binned(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Bin confidences [N]: count, mean confidence and share that is `right` of each, [3, bins]."""
    place = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(place, minlength=_BINS).astype(np.float64)
    sums = [np.bincount(place, weights=each, minlength=_BINS) for each in (confidence, right)]
    return np.stack([count, *(each / np.maximum(count, 1) for each in sums)])


def classification_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Score a classifier: accuracy, macro F1, cross-entropy in nats, expected calibration error.

    ECE is the count-weighted distance of accuracy and confidence over ten bins (Guo et al. 2017,
    On Calibration of Modern Neural Networks, eq. 3).
    """
    targets, probabilities = targets_and_probabilities(rows)
    counts = confusion_matrix(rows)
    of_target = probabilities[np.arange(len(targets)), targets]
    weight, confidence, accuracy = calibration_bins(rows)
    present = counts.sum(1) > 0
    return {
        "accuracy": float(counts.diagonal().sum() / len(targets)),
        "macro_f1": float(precision_recall_f1(counts)[2][present].mean()),
        "cross_entropy": float(-np.log(np.maximum(of_target, 1e-12)).mean()),
        "calibration_error": float((weight * np.abs(confidence - accuracy)).sum() / weight.sum()),
    }


def confusion_matrix_section(
    rows: Sequence[Row], class_names: Sequence[str], folder: Path
) -> ReportSection:
    """Draw the confusion matrix of a classifier for the report."""
    counts = confusion_matrix(rows)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(12.0, 2.5 + 0.45 * len(class_names))
    figure, axes = new_figure(size + 0.8, size)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(class_names)), class_names)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    save_figure(figure, folder / "confusion_matrix.png")
    wrong = int(counts.sum() - counts.diagonal().sum())
    return ReportSection(
        title="Confusion matrix",
        text=f"{wrong} of {counts.sum()} examples are wrong. Numbers are examples.",
        pictures=["confusion_matrix.png"],
    )


def calibration_section(rows: Sequence[Row], folder: Path) -> ReportSection:
    """Draw the reliability diagram: is a confidence of 90 % in a class right nine times in ten?"""
    count, confidence, accuracy = calibration_bins(rows)
    there = count > 0
    figure, axes = new_figure(5.2, 4.6)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="perfect calibration")
    sizes = 20 + 220 * count[there] / count.sum()
    axes.scatter(confidence[there], accuracy[there], s=sizes, color=ACCENT, zorder=3)
    axes.plot(confidence[there], accuracy[there], color=ACCENT, label="this model")
    axes.set(xlim=(0, 1.04), ylim=(0, 1.04))
    axes.set(xlabel="mean confidence of the bin", ylabel="accuracy of the bin")
    axes.legend(loc="upper left", frameon=False)
    save_figure(figure, folder / "calibration.png")
    error = classification_scores(rows)["calibration_error"]
    return ReportSection(
        title="Calibration",
        text=f"Expected calibration error {error:.4f}, ten bins; a dot's area shows its share "
        "of the examples.",
        pictures=["calibration.png"],
    )


def per_class_section(rows: Sequence[Row], class_names: Sequence[str]) -> ReportSection:
    """The report's table of precision, recall, F1 and number of examples of each class."""
    counts = confusion_matrix(rows)
    measures = precision_recall_f1(counts)
    table = [
        [name, *(f"{value:.3f}" for value in measures[:, k]), str(counts[k].sum())]
        for k, name in enumerate(class_names)
    ]
    return ReportSection(
        title="By class", table=(["class", "precision", "recall", "F1", "examples"], table)
    )
