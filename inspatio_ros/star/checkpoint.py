# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find weights, read them safely, and load them strictly: what does not fit exactly is an error that names it.

The released checkpoint is loaded non-strictly by the released code, so that a wrong prefix loads nothing, silently.
Here every wrapper that such files are known to carry is taken off the names, and then all names and shapes must fit.
"""

from __future__ import annotations

import json
import os
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from inspatio_ros.config import GeneratorConfig, from_dict, to_dict
from inspatio_ros.errors import ConfigurationError, WeightsError

#: Folder of the weights, where neither an argument names one nor the packaged ones are wanted.
WEIGHTS_VARIABLE = 'INSPATIO_WEIGHTS'
CONFIG_FILE = 'config.json'
#: Names that training code puts before the names of the network it holds; no network here has parts named so.
WRAPPERS = ('generator_ema', 'generator', 'model', 'module', 'state_dict')
#: Names that wrappers put in the middle.
INNER_WRAPPERS = ('_fsdp_wrapped_module', '_checkpoint_wrapped_module', '_orig_mod')
#: How many keys an error message names.
NAMED = 4


# --- reading files ---------------------------------------------------------------------------------------------------


class TensorFile:
    """An opened file of tensors (.safetensors, .pth or .pt), read one tensor at a time.

    A .pth is unpickled with `weights_only`, so that opening it cannot run code; dicts in dicts become dotted names.
    Attributes: `shapes`, name to shape; `metadata` str to str (safetensors only). Raises WeightsError.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.metadata: dict[str, str] = {}
        if not self.path.is_file():
            raise WeightsError(f'{self.path} is not a file; put the weights there or name another folder')
        if self.path.suffix == '.safetensors':
            self._open_safetensors()
        elif self.path.suffix in ('.pth', '.pt'):
            self._open_pickle()
        else:
            raise WeightsError(f'{self.path} is neither .safetensors nor .pth nor .pt; convert it to .safetensors')

    def tensor(self, name: str) -> Tensor:
        """Read one tensor."""
        return self._read(name)

    def _open_safetensors(self) -> None:
        try:
            file = safe_open(self.path, 'pt')
            self.shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(f'{self.path} is truncated or not a safetensors file ({_first_line(error)}); '
                               'fetch it again') from error
        self.metadata = dict(file.metadata() or {})
        self._read: Callable[[str], Tensor] = file.get_tensor

    def _open_pickle(self) -> None:
        try:
            content = torch.load(self.path, map_location='cpu', weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise WeightsError(f'{self.path} holds more than tensors or is damaged, and was not opened; '
                               'convert it to .safetensors where you trust it') from error
        except (RuntimeError, EOFError, OSError, ValueError) as error:
            raise WeightsError(f'{self.path} is truncated or not a file of tensors ({_first_line(error)}); '
                               'fetch it again') from error
        tensors = dict(_flatten(content))
        self.shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        self._read = tensors.__getitem__


def _flatten(content: object, prefix: str = '') -> Iterable[tuple[str, Tensor]]:
    """Give the tensors of dicts in dicts under dotted names; counters and the like beside them are left out."""
    if isinstance(content, Tensor) and prefix:
        yield prefix, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flatten(value, f'{prefix}.{key}' if prefix else str(key))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file: beside it first, then renamed, so that no half file is ever found."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, beside,
                  metadata=dict(metadata or {}))
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


# --- fitting names ---------------------------------------------------------------------------------------------------


def own_names(stored: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Take the wrappers off the names in a file: ({own name: stored name}, names that belong to no such group).

    A file may hold the averaged and the plain copy of a network; the averaged one (`generator_ema`) is taken.
    """
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for name in stored:
        parts = [part for part in name.split('.') if part not in INNER_WRAPPERS]
        depth = 0
        while depth < len(parts) and parts[depth] in WRAPPERS:
            depth += 1
        groups['.'.join(parts[:depth])]['.'.join(parts[depth:])] = name
    if not groups:
        return {}, []
    chosen = max(groups, key=lambda prefix: (len(groups[prefix]), 'generator_ema' in prefix))
    copies = [chosen] if 'generator' not in chosen else [prefix for prefix in groups if 'generator' in prefix]
    strays = [name for prefix, group in groups.items() if prefix not in copies for name in group.values()]
    return groups[chosen], strays


def load_module(module: nn.Module, path: str | Path, device: torch.device | str = 'cpu',
                dtype: torch.dtype | None = None,
                amend: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None) -> nn.Module:
    """Load a file into a module (which may be on the meta device), strictly.

    Args:
        module: what to load into; its parameters are replaced.
        path: a .safetensors, .pth or .pt file, its names with or without wrappers.
        device: where the parameters go.
        dtype: their type; float32 by default.
        amend: turns the file's tensors, by own name, into the module's, where the two are known to differ.

    Raises:
        WeightsError: a key is missing, extra or misshaped (the first few are named), or the file is damaged.

    """
    file = TensorFile(path)
    names, strays = own_names(file.shapes)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if amend is not None:
        state = amend({own: file.tensor(stored) for own, stored in names.items()})
        check_fit({own: tuple(value.shape) for own, value in state.items()}, wanted, file.path, strays)
    else:
        # Before anything large is read.
        check_fit({own: file.shapes[stored] for own, stored in names.items()}, wanted, file.path, strays)
        state = {}
    dtype = dtype or torch.float32
    placed = {own: (state[own] if own in state else file.tensor(names[own])).to(device=device, dtype=dtype)
              for own in wanted}
    module.load_state_dict(placed, strict=True, assign=True)
    return module


def check_fit(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], source: Path | str,
              strays: Iterable[str] = ()) -> None:
    """Raise a WeightsError that names the first missing, extra or misshaped keys."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted] + list(strays)
    misshaped = [f'{name} is {list(found[name])} instead of {list(shape)}' for name, shape in wanted.items()
                 if name in found and tuple(found[name]) != tuple(shape)]
    faults = [f'{len(names)} {kind} ({"; ".join(names[:NAMED])}{"; ..." if len(names) > NAMED else ""})'
              for kind, names in (('missing', missing), ('extra', extra), ('misshaped', misshaped)) if names]
    if faults:
        raise WeightsError(f'{source} does not fit the network: of {len(wanted)} tensors, {", ".join(faults)}')


# --- finding folders and files ---------------------------------------------------------------------------------------


def packaged_folder(name: str) -> Path:
    """Give the folder of the weights that come with the package."""
    return Path(__file__).resolve().parent.parent / 'weights' / name


def find_folder(name: str, weights_dir: str | Path | None = None) -> Path:
    """Find the folder of a generator's weights.

    In this order: `weights_dir`; the environment's INSPATIO_WEIGHTS, or its sub-folder `name`; the packaged folder.
    A folder that is named must exist; INSPATIO_WEIGHTS is passed over where it clearly holds another generator.
    """
    if weights_dir is not None:
        folder = Path(weights_dir).expanduser()
        if not folder.is_dir():
            raise WeightsError(f'there is no weights folder {folder}; name an existing one')
        return folder / name if (folder / name).is_dir() else folder
    from_environment = os.environ.get(WEIGHTS_VARIABLE)
    if from_environment:
        folder = Path(from_environment).expanduser()
        if not folder.is_dir():
            raise WeightsError(f'{WEIGHTS_VARIABLE} names {folder}, which is not a folder; correct or unset it')
        if (folder / name).is_dir():
            return folder / name
        if not packaged_folder(name).is_dir() or _generator_in(folder) == name:
            return folder
    if packaged_folder(name).is_dir():
        return packaged_folder(name)
    raise WeightsError(f'there are no weights for {name!r}; put them in a folder and name it by the option --weights, '
                       f'the parameter weights, or the environment variable {WEIGHTS_VARIABLE}')


def _generator_in(folder: Path) -> str | None:
    """Give the name of the generator that a folder's config.json is of; None without one of ours."""
    try:
        return json.loads((folder / CONFIG_FILE).read_text()).get('name')
    except (OSError, ValueError, AttributeError):
        return None


def find_file(folder: Path, patterns: Iterable[str], what: str) -> Path:
    """Find one file in a folder or below it; earlier patterns go first, and two files of one pattern are an error.

    Folders below that hold a generator of their own, and all in them, are passed over.
    """
    patterns = tuple(patterns)
    for pattern in patterns:
        found = sorted(path for path in folder.rglob(pattern) if path.is_file() and not _is_anothers(path, folder))
        if len(found) > 1:
            raise WeightsError(f'{folder} holds several files for {what}: {", ".join(str(p) for p in found[:NAMED])}; '
                               'keep one of them there')
        if found:
            return found[0]
    raise WeightsError(f'{folder} holds no {what}; put {" or ".join(patterns)} there')


def _is_anothers(path: Path, folder: Path) -> bool:
    between = path.parent.relative_to(folder)
    return any(_generator_in(folder / part) is not None for part in (between, *between.parents) if part != Path())


def load_config(folder: Path, default: GeneratorConfig | None = None) -> GeneratorConfig:
    """Read a folder's config.json; without one, `default` if there is one."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        if default is not None:
            return default
        raise WeightsError(f'{folder} holds no {CONFIG_FILE}; it does not look like a folder of weights')
    try:
        plain = json.loads(path.read_text())
        if default is not None and '_class_name' in plain:
            # Another library's, which lies beside the weights that Wan releases.
            return default
        return from_dict(GeneratorConfig, plain)
    except (ValueError, TypeError, AttributeError, ConfigurationError) as error:
        raise WeightsError(f"{path} is not a generator's configuration: {_first_line(error)}") from error


def save_config(folder: Path, config: GeneratorConfig) -> None:
    """Write a folder's config.json, beside it first, then renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f'.{CONFIG_FILE}.{os.getpid()}'
    beside.write_text(json.dumps(to_dict(config), indent=2) + '\n')
    beside.replace(folder / CONFIG_FILE)
