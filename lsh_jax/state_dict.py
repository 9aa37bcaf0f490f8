"""A PyTorch state dict taken apart: which entry is which part of a language model.

Names are told by their last part, `weight_hh_l0`, `weight`, `bias`; what stands before it is the
module's, which a user chooses, so that embedding and decoder are told by their shapes.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from lsh_jax.config import ConfigError, check

_RECURRENT = re.compile(
    r"(?:(?P<module>.+)\.)?(?P<part>(?:weight|bias)_(?:ih|hh|hr))(?:_l(?P<layer>\d+))?"
    r"(?P<reverse>_reverse)?"
)
_COMPUTED = re.compile(r"parametrizations\.|_orig$|weight\w*_[gv]$")  # pruned, weight_norm, others
_EMBEDDING = re.compile(r"(emb|encoder)[^.]*$")  # what an embedding is called
_LISTED = 8  # names that a message spells out


class Entry(NamedTuple):
    """An array of the state dict."""

    name: str  # as the caller has it
    value: npt.NDArray[np.float32]


Layer = dict[str, Entry]  # by part: weight_ih, weight_hh, and both or none of bias_ih, bias_hh
_Entries = dict[str, Entry]  # by the name without wrappers, or by module


class Parts(NamedTuple):
    """A state dict as the parts of a language model; nothing is left over."""

    layers: list[Layer]  # from the input upwards, at least one
    table: Entry  # of the embedding, [V, E] with E the columns of the first weight_ih
    decoder: Entry  # [V, H] with H the columns of the last weight_hh; the table itself where it
    # is there once
    bias: Entry | None  # of the decoder


def take_apart(
    state_dict: Mapping[str, Any],
    embedding: str | None,
    recurrent: str | Sequence[str] | None,
    decoder: str | None,
) -> Parts:
    """Finds the parts of a language model; the arguments are those of `convert.from_torch`.

    Returns:
      The parts. Columns of the matrices fit what is below them, and the two tables have the same
      rows; the rows of a layer and the lengths of biases are not checked.

    Raises:
      ConfigError: as said there.
    """
    entries = _read(state_dict)
    layers = _find_layers(entries, recurrent)
    used = {entry.name for layer in layers for entry in layer.values()}
    rest = {name: entry for name, entry in entries.items() if entry.name not in used}
    weights, biases = _suffixed(rest, "weight"), _suffixed(rest, "bias")
    weights = {module: entry for module, entry in weights.items() if entry.value.ndim == 2}
    widths = layers[0]["weight_ih"].value.shape[1], layers[-1]["weight_hh"].value.shape[1]
    first, second = _find_tables(weights, biases, widths, embedding, decoder)
    table = weights[first]
    parts = Parts(layers, table, weights.get(second, table), biases.get(second))
    used |= {entry.name for entry in parts[1:] if isinstance(entry, Entry)}
    unused = [f"{e.name!r} {e.value.shape}" for e in entries.values() if e.name not in used]
    if unused:
        raise ConfigError(
            "`state_dict` must hold an embedding, recurrent layers and a linear decoder alone, got "
            f"besides them {_listing(unused)}: models with other layers cannot be taken over."
        )
    return parts


def _read(state_dict: Mapping[str, Any]) -> _Entries:
    """The arrays as float32, by their names without wrappers."""
    given = isinstance(state_dict, Mapping)
    kind = type(state_dict).__name__
    check(given, "state_dict", "map names to arrays, as module.state_dict() does", kind)
    entries: _Entries = {}
    for name, value in state_dict.items():
        check(isinstance(name, str), "state_dict", "map names to arrays", name)
        if _COMPUTED.search(name):
            raise ConfigError(
                f"`state_dict` must hold the weights themselves, got {name!r}, from which torch "
                "computes one: call prune.remove, remove_weight_norm or remove_parametrizations of "
                "torch.nn.utils there and take the state dict again."
            )
        plain = _plain(name)
        if plain in entries:
            raise ConfigError(
                f"`state_dict` must hold every weight once, got {entries[plain].name!r} and "
                f"{name!r}: leave out the one that is not trained."
            )
        entries[plain] = Entry(name, _as_float32(name, value))
    return entries


def _plain(name: str) -> str:
    """A name without the parts that DataParallel, torch.compile and weight dropout add to it."""
    kept = [part for part in name.split(".") if part not in ("module", "_orig_mod")]
    return re.sub(r"(weight_[ih]h_l\d+)_raw$", r"\1", ".".join(kept))


def _as_float32(name: str, value: Any) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's, of a tensor on a GPU, say
        reason = str(error).split("\n")[0].rstrip(".")
        raise ConfigError(
            f"`state_dict` must hold what numpy.asarray takes, got {type(value).__name__} of "
            f"{name!r} ({reason}): pass tensor.detach().cpu().float().numpy()."
        ) from error
    if not jnp.issubdtype(array.dtype, jnp.floating):  # which knows ml_dtypes' bfloat16
        raise ConfigError(
            f"`state_dict` must hold arrays of floats, got {type(value).__name__} of dtype "
            f"{array.dtype} of {name!r}: pass module.state_dict() of the language model alone."
        )
    with np.errstate(over="ignore"):  # what overflows is refused as infinite
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ConfigError(
            f"`state_dict` must be finite in float32, got {int((~np.isfinite(array)).sum())} other "
            f"values in {name!r}: take a checkpoint from before training diverged."
        )
    return array


def _find_layers(entries: _Entries, recurrent: str | Sequence[str] | None) -> list[Layer]:
    """The recurrent layers from the input upwards."""
    found: dict[str, dict[int, Layer]] = {}
    for name, entry in entries.items():
        match = _RECURRENT.fullmatch(name)
        if match is None:
            continue
        _check_supported(entry, match)
        layers = found.setdefault(match["module"] or "", {})
        layers.setdefault(int(match["layer"] or 0), {})[match["part"]] = entry
    if recurrent is None:
        modules = _stacked(list(found))
    else:
        modules = [_plain(m) for m in ([recurrent] if isinstance(recurrent, str) else recurrent)]
        known = modules and len(set(modules)) == len(modules) and set(modules) <= set(found)
        condition = (
            f"name recurrent modules of the state dict, each once ({_listing(map(repr, found))})"
        )
        check(bool(known), "recurrent", condition, recurrent)
    if not modules:
        raise ConfigError(
            "`state_dict` must have a recurrent layer with names like 'rnn.weight_hh_l0', got "
            f"{_listing(repr(entry.name) for entry in entries.values())}."
        )
    for module in modules:
        numbers = sorted(found[module])
        whole = numbers == list(range(len(numbers)))
        condition = f"have the layers of {module!r} from l0 on without a gap"
        check(whole, "state_dict", condition, numbers)
    stack = [found[module][number] for module in modules for number in sorted(found[module])]
    for layer in stack:
        _check_whole(layer)
    for below, layer in itertools.pairwise(stack):
        units, entry = below["weight_hh"].value.shape[1], layer["weight_ih"]
        condition = (
            f"have {units} columns in {entry.name!r}, one for each unit of the layer below (name "
            "the modules from the input upwards in `recurrent` if that is another)"
        )
        check(entry.value.shape[1] == units, "state_dict", condition, entry.value.shape)
    return stack


def _check_supported(entry: Entry, match: re.Match[str]) -> None:
    if match["reverse"]:
        raise ConfigError(
            f"`state_dict` must be of a model that reads forward, got {entry.name!r}: a "
            "bidirectional network is no language model."
        )
    if match["part"].endswith("hr"):
        raise ConfigError(
            f"`state_dict` must be of layers without projections, got {entry.name!r}: lsh_jax has "
            "none, train with proj_size=0."
        )


def _stacked(modules: list[str]) -> list[str]:
    """Orders modules whose names differ by numbers alone."""
    if len({re.sub(r"\d+", "0", module) for module in modules}) > 1:
        raise ConfigError(
            "`recurrent` must name the recurrent modules from the input upwards where their names "
            f"do not number them, got none for {_listing(map(repr, modules))}."
        )
    return sorted(modules, key=lambda module: [int(n) for n in re.findall(r"\d+", module)])


def _check_whole(layer: Layer) -> None:
    """Refuses a layer without a matrix, and one with one bias of two."""
    name = next(iter(layer.values())).name
    for kind in ("weight", "bias"):
        missing = [part for part in (f"{kind}_ih", f"{kind}_hh") if part not in layer]
        if len(missing) == 1 or (missing and kind == "weight"):
            raise ConfigError(
                "`state_dict` must have both matrices and both or no biases of a recurrent layer, "
                f"got none for {' and '.join(missing)} of the layer of {name!r}."
            )
    for part in ("weight_ih", "weight_hh"):
        shape = layer[part].value.shape
        check(len(shape) == 2, "state_dict", f"have a matrix in {layer[part].name!r}", shape)


def _suffixed(entries: _Entries, suffix: str) -> _Entries:
    """The entries of that last part, by their modules."""
    split = {name: name.rpartition(".") for name in entries}
    return {split[name][0]: e for name, e in entries.items() if split[name][2] == suffix}


def _find_tables(
    weights: _Entries,
    biases: _Entries,
    widths: tuple[int, int],
    embedding: str | None,
    decoder: str | None,
) -> tuple[str, str]:
    """The modules of embedding and decoder; a decoder with a bias may lack a matrix of its own."""
    every = {**weights, **biases}
    firsts = _named("embedding", embedding, weights) or [m for m in weights if m not in biases]
    seconds = _named("decoder", decoder, every) or list(every)
    both_named = embedding is not None and decoder is not None
    pairs = []
    for first in firsts:
        for second in seconds:
            shapes = weights[first].value.shape, weights.get(second, weights[first]).value.shape
            fits = shapes == tuple((shapes[0][0], width) for width in widths)
            if fits and (first != second or both_named):
                pairs.append((first, second))
    pair = _choose(pairs, weights)
    if pair is not None:
        return pair
    got = _listing(f"{entry.name!r} {entry.value.shape}" for entry in weights.values())
    if pairs:
        raise ConfigError(
            "`embedding` and `decoder` must name their modules where shapes leave a choice, got "
            f"{embedding!r} and {decoder!r} for {got}."
        )
    raise ConfigError(
        f"`state_dict` must have an embedding [V, {widths[0]}] and a decoder [V, {widths[1]}] to "
        f"fit the recurrent layers, got {got}: name the modules in `embedding` and `decoder`, the "
        "same one twice if they share a matrix that is there once."
    )


def _choose(pairs: list[tuple[str, str]], weights: _Entries) -> tuple[str, str] | None:
    """The one pair of embedding and decoder among those that fit, if there is one."""
    pairs = [pair for pair in pairs if pair[1] in weights] or pairs
    if len(pairs) > 1:
        first, second = pairs[0]
        swapped = len(pairs) == 2 and pairs[1] == (second, first)
        if swapped and np.array_equal(weights[first].value, weights[second].value):
            return pairs[0]
        like = [_EMBEDDING.search(module) is not None for module, _ in pairs]
        other = [_EMBEDDING.search(module) is not None for _, module in pairs]
        pairs = [p for p, e, d in zip(pairs, like, other, strict=True) if e and not d]
    return pairs[0] if len(pairs) == 1 else None


def _named(argument: str, name: str | None, modules: _Entries) -> list[str]:
    """The module that an argument names, in a list; none if it names none."""
    if name is None:
        return []
    module = _plain(name).removesuffix(".weight")
    listed = _listing(map(repr, modules))
    check(module in modules, argument, f"be the name of a module there ({listed})", name)
    return [module]


def _listing(names: Iterable[str]) -> str:
    """Names for a message, or how many more there are than fit in one."""
    names = list(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) or "nothing") + more
