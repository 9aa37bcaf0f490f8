"""Type aliases, traced hyperparameters and the one legend of shape letters.

T time, B batch, V vocabulary, E embedding, H hidden units, L layers, N size of a state,
K exponents, S segments of an epoch, W windows, n weights of a leaf.
Inside formulas of recurrent cells `W` and `U` are the input and the recurrent weights.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed PRNG key, from `jax.random.key`
PyTree = Any
Params = PyTree  # floats
Masks = PyTree  # bool, the tree of the parameters; all ones where a leaf stays dense
Carry = PyTree  # what a recurrent model hands from one window to the next
State = PyTree  # what a dynamical system hands from one step to the next
StepFn = Callable[[State, Any], State]  # (state, input of the step) -> state
Predicate = Callable[[tuple[str, ...], Array], bool]  # (path of a leaf, leaf) -> keep it?


class Hyper(NamedTuple):
    """The non-methodological hyperparameters of training, traced: one program serves all values.

    Every field is a float32 scalar (or a Python float where no program is being traced).
    """

    learning_rate: Any  # step size
    clip: Any  # largest norm of the dense gradient, > 0; inf turns clipping off
    weight_decay: Any  # L2, added to the gradient as torch.optim.SGD does
    dropout_embed: Any  # rate at which whole words lose their embedding
    dropout_input: Any  # ... elements of the embedded input
    dropout_hidden: Any  # ... elements between the layers
    dropout_output: Any  # ... elements of the last layer's output
