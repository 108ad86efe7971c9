"""Images by class, and clustering by class: the classes are drawn, each with its images.

Images of one class fire alike. Where the classes are themselves a sample (of all that a network could be shown), an
interval over images alone is too short: the class means are then the independent numbers, as in the cluster bootstrap
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8: groups drawn, not images in them).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spikeattn.errors import SpikeattnError, unknown
from spikeattn.stats.bootstrap import Floats

FEWEST_CLASSES = 2


def images_by_label(labels: ArrayLike, n_images: int) -> dict[int, NDArray[np.intp]]:
    """Row numbers of the images of every label, by label in rising order.

    A class is a data set of its own: its interval is the one that a table of its images alone gives. Intervals hold one
    class each; they are not simultaneous over classes.

    Raises:
        SpikeattnError: not one whole number per image.
    """
    labels = np.asarray(labels)
    if labels.shape != (n_images,) or not np.issubdtype(labels.dtype, np.integer):
        raise SpikeattnError(
            f"labels are an array of shape {labels.shape} and type {labels.dtype}; one whole number for each of the "
            f"{n_images} images is needed"
        )
    order = np.argsort(labels, kind="stable")
    distinct, starts = np.unique(labels[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))


def check_cluster(cluster: Any) -> None:
    """Refuse what is neither None nor "label".

    Raises:
        SpikeattnError: naming what is valid.
    """
    if cluster is not None and cluster != "label":
        raise unknown("cluster", str(cluster), ["label"])


def checked_labels(labels: ArrayLike, n_images: int) -> NDArray[np.integer]:
    """Labels [N] of images that can be clustered by class.

    Raises:
        SpikeattnError: not one whole number per image, images without a label, fewer than two classes.
    """
    held = images_by_label(labels, n_images)
    without = sum(len(images) for label, images in held.items() if label < 0)
    if without:
        raise SpikeattnError(
            f"clustering by class needs the class of every image; {without} of {n_images} images have no label"
        )
    if len(held) < FEWEST_CLASSES:
        raise SpikeattnError(
            f"clustering by class needs images of {FEWEST_CLASSES} classes or more; the {n_images} images are all of "
            f"class {next(iter(held))}"
        )
    return np.asarray(labels)


def class_means(table: Floats, labels: NDArray[np.integer]) -> Floats:
    """Mean of every class, [classes, C] from [N, C], by label in rising order."""
    return np.stack([table[images].mean(axis=0) for images in images_by_label(labels, len(table)).values()])
