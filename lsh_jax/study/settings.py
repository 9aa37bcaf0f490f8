"""The settings of a study: networks that are all trained to the end."""

import bisect
import dataclasses
from typing import NamedTuple

import numpy as np

from lsh_jax.config import (
    ModelConfig,
    SearchConfig,
    SpaceConfig,
    SparsityConfig,
    TrainConfig,
    check,
    check_choice,
)
from lsh_jax.search import space as spaces
from lsh_jax.search.trial import DENSE
from lsh_jax.sizes import model_sizes
from lsh_jax.sparsity import preset

E0 = 4  # epochs before the first score in the searches that are replayed
_LONG_E0 = 7  # in the search that `long-dense` is given the epochs of
BASELINES = ("small-dense", "gradual", "static-uniform", "static-er", "long-dense")


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """Candidates drawn at random, several seeds each, all trained to the end.

    Every epoch ends with the mean of its own iterates; from `average_from` on the mean goes on from
    epoch to epoch. The mean of the epoch with the best validation is the trained network.
    """

    model: ModelConfig
    train: TrainConfig
    sparsity: float
    data: str = "ptb"
    """Corpus, as of `load_corpus`."""
    space: SpaceConfig = dataclasses.field(default_factory=SpaceConfig)
    num_candidates: int = 24
    num_seeds: int = 3
    early_epochs: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9, 10)
    """Candidates have spectra after these epochs, in growing order, and after the last."""
    average_from: int = 10
    """The first epoch whose mean of iterates is the start of all later ones'."""
    final_epochs: int = 16
    lengths: tuple[int, ...] = (35, 70, 100, 200, 500)
    """Steps that spectra of the hidden state are averaged over, growing multiples of 5."""
    full_lengths: tuple[int, ...] = (35, 100)
    """Steps that spectra of the full state are averaged over, growing multiples of 5."""
    burn_in: int = 40
    """Steps before them that only turn state and frame."""
    batch: int = 4
    """Columns of validation text that spectra of the hidden state are averaged over."""
    full_batch: int = 1
    """Columns that spectra of the full state are averaged over."""
    baselines: tuple[str, ...] = ()
    """Networks beside the candidates, of `BASELINES`."""

    def __post_init__(self) -> None:
        """Checks what the parts do not check themselves."""
        averaging = self.train.averaging
        check(averaging == "nt-asgd", "train.averaging", "be nt-asgd in a study", averaging)
        early = list(self.early_epochs)
        grows = bool(early) and early == sorted(set(early)) and early[0] >= 1
        check(grows, "early_epochs", "name epochs in growing order", self.early_epochs)
        inside = early[-1] < self.average_from <= self.final_epochs
        condition = f"lie between {early[-1] + 1}, behind early_epochs, and final_epochs"
        check(inside, "average_from", condition, self.average_from)
        for name in ("lengths", "full_lengths"):
            lengths = getattr(self, name)
            grows = list(lengths) == sorted(set(lengths)) and all(n % 5 == 0 for n in lengths)
            check(grows, name, "hold growing multiples of 5", lengths)
        for name in self.baselines:
            check_choice("baselines", name, BASELINES)

    def search(self) -> SearchConfig:
        """A search among the networks of this study."""
        return SearchConfig(
            max_evals=self.num_candidates,
            final_epochs=self.final_epochs,
            sparsity=self.sparsity,
            space=self.space,
        )


class Network(NamedTuple):
    """A network of a study.

    Attributes:
      name: "dense", the number of a candidate, or a baseline.
      model: its sizes.
      sparsity: how it is pruned.
      final_epochs: of its training.
      average_from: as in `StudyConfig`.
      spectra: the epochs after which it has spectra.
    """

    name: str
    model: ModelConfig
    sparsity: SparsityConfig
    final_epochs: int
    average_from: int
    spectra: tuple[int, ...]


def networks(study: StudyConfig) -> dict[str, Network]:
    """All networks of a study by name: the dense one, the candidates, the baselines."""
    last = study.final_epochs
    early = (*study.early_epochs, last)

    def network(name: str, sparsity: SparsityConfig, spectra: tuple[int, ...] = ()) -> Network:
        return Network(name, study.model, sparsity, last, study.average_from, spectra)

    found = [network("dense", DENSE, tuple(range(1, last + 1)))]
    for number, config in enumerate(draw_candidates(study)):
        found.append(network(str(number), config, early))
    found += [_baseline(study, network(name, DENSE)) for name in study.baselines]
    return {network.name: network for network in found}


def draw_candidates(study: StudyConfig) -> list[SparsityConfig]:
    """Distinct configurations, each as likely as any other of the space.

    Raises:
      ConfigError: when the space holds fewer than `num_candidates`.
    """
    search = study.search()
    choices = list(spaces.assignments(spaces.make_space(search)))
    fits = study.num_candidates <= len(choices)
    condition = f"be at most the {len(choices)} configurations of the space"
    check(fits, "num_candidates", condition, study.num_candidates)
    drawn = np.random.default_rng(0).choice(len(choices), study.num_candidates, replace=False)
    return [spaces.sparsity_config(choices[index], search) for index in drawn]


def _baseline(study: StudyConfig, dense: Network) -> Network:
    name, epochs = dense.name, study.final_epochs
    if name == "small-dense":
        return dense._replace(model=small_model(study))
    if name == "long-dense":
        longer = search_epochs(study)
        start = round(longer * study.average_from / epochs)
        return dense._replace(final_epochs=longer, average_from=start)
    if name == "gradual":
        config = preset(
            "gradual", sparsity=study.sparsity, horizon=epochs, stop_fraction=0.5, update_every=1.0
        )
    else:
        init = "er" if name == "static-er" else "uniform"
        config = preset("static", sparsity=study.sparsity, init=init)
    return dense._replace(sparsity=config)


def search_epochs(study: StudyConfig) -> int:
    """The epochs of a search that tries every candidate: what `long-dense` is given."""
    from lsh_jax.search.successive_halving import num_epochs, plan

    search = dataclasses.replace(study.search(), e0=_LONG_E0, ei=1)
    return num_epochs(search, plan(search))


def small_model(study: StudyConfig) -> ModelConfig:
    """The widest dense network with no more weights than a candidate has live ones.

    Raises:
      ConfigError: when even one unit has more.
    """
    live = round((1 - study.sparsity) * model_sizes(study.model).weights)

    def model(width: int) -> ModelConfig:
        return dataclasses.replace(study.model, embed_size=width, hidden_size=width)

    widths = range(1, study.model.hidden_size + 1)
    fitting = bisect.bisect_right(widths, live, key=lambda width: model_sizes(model(width)).weights)
    check(fitting > 0, "sparsity", "leave a network of one unit", study.sparsity)
    return model(fitting)


def candidate_seed(network: Network, seed: int) -> int:
    """The seed of a network's masks and growth: that of the same candidate of a search."""
    config = network.sparsity.to_json()
    return spaces.candidate_seed(config, seed) if network.sparsity != DENSE else seed
