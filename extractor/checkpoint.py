"""Checkpoints: plain values and tensors, whole at every moment, opened without running anybody's code."""

import io
import re
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn

from extractor import UserError
from extractor.files import atomic_write


def save(path: str | Path, state: dict):
    """Writes a checkpoint aside, flushes it to the disk and renames it: a kill leaves the old file or the new one."""
    content = io.BytesIO()  # torch.save into a file answers a full disk with a RuntimeError that names no disk
    torch.save(state, content)
    with atomic_write(path) as aside:
        aside.write_bytes(content.getbuffer())


def load(path: str | Path) -> dict:
    """Reads a checkpoint, its tensors to the CPU. Raises UserError for what is no checkpoint of this project."""
    path = Path(path)
    if not path.is_file():
        raise UserError("there is no such checkpoint; train.py writes runs/<name>/best.pt", path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise UserError(f"cannot be read ({e.strerror})", path) from None
    except Exception as e:  # torch.load raises a dozen types for a damaged file, RuntimeError to UnpicklingError
        raise UserError(f"damaged, or no checkpoint ({type(e).__name__}); take another one", path) from None
    if not isinstance(state, dict) or not {"family", "args", "ema"} <= state.keys():
        raise UserError("no checkpoint of train.py", path)
    return state


def name_of(path: str | Path) -> str:
    """Returns the name of the run that wrote a checkpoint; for an exported checkpoint that of its file."""
    path = Path(path).resolve()
    return path.parent.name if re.fullmatch(r"best|last|best_until_\d+|step_\d+(_before)?", path.stem) else path.stem


def sha256_of(path: str | Path) -> str:
    """Returns the start of a file's SHA-256; "" where there is no file."""
    return sha256(Path(path).read_bytes()).hexdigest()[:16] if Path(path).is_file() else ""


def load_weights(weights: dict[str, Tensor], net: nn.Module, path: str | Path):
    """Puts weights into a net of the same args. Raises UserError where such a net has other weights by now."""
    there, here = ({name: tuple(w.shape) for name, w in of.items()} for of in (weights, net.state_dict()))
    for name in {**here, **there}:
        was, wanted = (of.get(name, "nowhere") for of in (there, here))
        if was != wanted:
            raise UserError(f"written by another version: {name} is {was} there, {wanted} here; train anew", path)
    net.load_state_dict(weights)
