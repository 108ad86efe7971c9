"""The first argument of the functions of this room: a profile; or, as before, a ledger and its counts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from spikeattn.boundary.arguments import shown
from spikeattn.energy.activity import Activity, CountedActivity, CountTable, Run, Source, check_run
from spikeattn.errors import SpikeattnError
from spikeattn.stats.classes import check_cluster, checked_labels
from spikeattn.storage.ledger import Ledger

P = ParamSpec("P")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class OfProfile(Protocol[S_contra, P, R_co]):
    """A function of a profile that takes a ledger and its counts, two arguments, in its place."""

    @overload
    def __call__(self, profile: S_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, ledger: Ledger, counts: CountTable | Activity, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def of_profile(function: Callable[Concatenate[S_contra, P], R_co]) -> OfProfile[S_contra, P, R_co]:
    """Let a function of a profile take a ledger and its counts as well."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R_co:
        return function(*_joined(args, kwargs), **kwargs)

    return call


def once_of_ledger(function: Callable[Concatenate[S_contra, P], R_co]) -> OfProfile[S_contra, P, R_co]:
    """As `of_profile`, where the ledger and its counts are the call of an earlier release: with a warning."""
    name, either = function.__name__, of_profile(function)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> R_co:
        if _has_ledger(args, kwargs):
            warnings.warn(
                f"{name}(ledger, counts, ...) is {name}(profile, ...) now; the old call goes in the next release",
                DeprecationWarning,
                stacklevel=2,
            )
        return either(*args, **kwargs)

    return call


def once_named(name: str, now: str = "profile") -> Callable[[Callable[P, R_co]], Callable[P, R_co]]:
    """Let the argument `now` be named as in an earlier release, with a warning."""

    def of(function: Callable[P, R_co]) -> Callable[P, R_co]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R_co:
            if name in kwargs:
                if now in kwargs:
                    raise SpikeattnError(f"{name}= is the old name of {now}=; give {now}= alone")
                kwargs[now] = kwargs.pop(name)
                message = f"{function.__name__}({name}=...) is {now}=... now; the old name goes in the next release"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return call

    return of


def counted(profile: Run) -> CountedActivity:
    """The counts of a profile, checked against its ledger.

    Raises:
        SpikeattnError: no profile, or what `CountedActivity` refuses.
    """
    check_run("profile", profile)
    return profile if isinstance(profile, CountedActivity) else CountedActivity(profile.ledger, profile.counts)


def activity_of(profile: Run | Activity) -> Activity:
    """What terms are evaluated on: the counts of a profile, or the rates of a published table as they are."""
    return profile if isinstance(profile, Activity) else counted(profile)


def labels_to_cluster(profile: Any, cluster: str | None) -> NDArray[np.integer] | None:
    """The class of every image of a run where images are clustered by class, else None.

    Raises:
        SpikeattnError: a cluster that is neither None nor "label", labels that are missing, or of one class alone.
    """
    check_cluster(cluster)
    if cluster is None:
        return None
    rows = getattr(getattr(profile, "counts", None), "rows", None)
    if rows is None:
        raise SpikeattnError("clustering by class needs the labels of images; give a finished run")
    labels: NDArray[np.integer] = rows["label"].to_numpy()
    return checked_labels(labels, len(labels))


@dataclass(frozen=True)
class _OnLedger:
    """An activity under a ledger that is handed over beside it."""

    ledger: Ledger
    activity: Activity

    @property
    def n_images(self) -> int:
        return self.activity.n_images

    def total(self, source: Source) -> NDArray[Any]:
        return self.activity.total(source)


def _has_ledger(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return "ledger" in kwargs or (bool(args) and isinstance(args[0], Ledger))


def _joined(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments with one profile in place of a ledger and its counts, which are taken out of `kwargs`."""
    if not _has_ledger(args, kwargs):
        return args
    names = [name for name in ("ledger", "counts", "activity") if name in kwargs]
    ledger, counts, *rest = (*args[:1], *(kwargs.pop(name) for name in names), *args[1:], None)
    rest = rest[:-1]  # the None stands for counts that are absent
    if isinstance(ledger, Ledger) and hasattr(counts, "column"):
        return CountedActivity(ledger, counts), *rest
    if isinstance(ledger, Ledger) and hasattr(counts, "total"):
        return counts if getattr(counts, "ledger", None) is ledger else _OnLedger(ledger, counts), *rest
    raise SpikeattnError(
        f"the ledger is {shown(ledger)} and its counts are {shown(counts)}; give a profile, or `profile.ledger` and "
        "`profile.counts` of one"
    )
