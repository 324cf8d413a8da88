"""What people give where a checkpoint belongs, called by its name."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import InvalidFile

_ORIGINAL = "give the checkpoint it was made from"
# (a file that tells it, what it is, what to do); the first that is there counts
IN_A_FOLDER = (
    ("adapter_config.json", "a LoRA adapter, not a model", "merge it into its base model, and give that"),
    ("*.onnx", "a model in ONNX format", _ORIGINAL),
    ("*.mlpackage", "a Core ML package", _ORIGINAL),
    ("*.edge", "a folder with edgekit packages", "they are converted already: edgekit run FILE.edge"),
    ("*.gguf", "a folder with several GGUF files", "give one of them"),
)
FILES = {
    ".edge": ("an edgekit package already", f"edgekit run takes it as it is; for another scheme {_ORIGINAL}"),
    ".onnx": ("a model in ONNX format", _ORIGINAL),
    ".safetensors": ("weights without config.json beside them", "download the model's other files too"),
    ".bin": ("no checkpoint that is read: pickles run code when opened", "save the model as safetensors"),
}
ANY_FILE = ("no checkpoint", "give a folder with config.json and safetensors files, or a .gguf file")


def refuse(path: Path) -> None:
    """Raises InvalidFile when `path` is there and is no checkpoint."""
    if path.is_file():
        if path.suffix == ".safetensors" and (path.parent / "config.json").exists():
            return
        what, hint = FILES.get(path.suffix, ANY_FILE)
        raise InvalidFile(f"{path} is {what}", hint=hint)
    if not path.is_dir() or (any(path.glob("*.safetensors*")) and (path / "config.json").exists()):
        return
    for pattern, what, hint in IN_A_FOLDER:
        if any(path.glob(pattern)):
            raise InvalidFile(f"{path} is {what}", hint=hint)
    if not (path / "config.json").exists():
        held = sorted(file.name for file in path.iterdir())
        shown = ", ".join(held[:5]) + (", …" if len(held) > 5 else "") or "nothing"
        raise InvalidFile(
            f"{path} has no config.json, so it is no checkpoint; it holds {shown}",
            hint="give the folder that has config.json beside the weights",
        )
