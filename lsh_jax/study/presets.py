"""The studies of this repository, and the settings that scouting compared before them."""

import dataclasses
from typing import Any

from lsh_jax.config import ModelConfig, SpaceConfig, TrainConfig
from lsh_jax.study.settings import BASELINES, StudyConfig

_SPACE = SpaceConfig(death_rate=(0.3, 0.5, 0.7, 0.9), update_every=(1.0,))


def _train(**changes: Any) -> TrainConfig:
    """A recipe of small windows and few columns: many steps from little text."""
    recipe = TrainConfig(
        learning_rate=20.0,
        averaging="nt-asgd",
        dropout_input=0.3,
        dropout_hidden=0.3,
        dropout_output=0.3,
        batch_size=5,
        bptt=20,
        segments_per_epoch=1,
        max_train_tokens=20_000,
        max_eval_tokens=20_000,
    )
    return dataclasses.replace(recipe, **changes)


def _dropout(rate: float) -> dict[str, float]:
    return {f"dropout_{place}": rate for place in ("input", "hidden", "output")}


_LSTM = StudyConfig(
    model=ModelConfig(vocab_size=1000, embed_size=96, hidden_size=96),
    train=_train(),
    sparsity=0.67,
    space=_SPACE,
    average_from=18,
    final_epochs=30,
)
_RHN = dataclasses.replace(
    _LSTM,
    model=ModelConfig(
        cell="rhn", vocab_size=1000, embed_size=96, hidden_size=96, num_layers=1, depth=3, tied=True
    ),
    train=_train(learning_rate=8.0, locked_dropout=True),
    sparsity=0.53,
    full_lengths=(),  # the state of an RHN is its hidden state
    num_candidates=16,
    num_seeds=2,
)


def _scouted(study: StudyConfig, **recipe: Any) -> StudyConfig:
    train = dataclasses.replace(study.train, **recipe)
    return dataclasses.replace(
        study, train=train, num_candidates=4, num_seeds=2, full_lengths=(), lengths=(100,)
    )


# Beside it, the settings of the studies themselves.
SCOUTING: dict[str, StudyConfig] = {"lstm-more-dropout": _scouted(_LSTM, **_dropout(0.5))}
STUDIES: dict[str, StudyConfig] = {
    "lstm-67": dataclasses.replace(_LSTM, baselines=BASELINES),
    "rhn-53": _RHN,
    "lstm-90": dataclasses.replace(_LSTM, sparsity=0.9, num_candidates=16, num_seeds=2),
    "rhn-90": dataclasses.replace(_RHN, sparsity=0.9),
    "lstm-67-sotu": dataclasses.replace(_LSTM, data="sotu", num_candidates=16, num_seeds=2),
}
