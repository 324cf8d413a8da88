"""Models in llama.cpp's own formats, made by llama.cpp's own code. Needs llama-cpp-python."""

from __future__ import annotations

from pathlib import Path

import llama_cpp

FILE_TYPES = {
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}
_silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
llama_cpp.llama_log_set(_silence, None)


def quantize(source: Path, target: Path, file_type: str) -> None:
    """`source`, a GGUF file of wide numbers, as one of `FILE_TYPES`."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[file_type]
    part = target.with_suffix(".part")
    if llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), parameters):
        part.unlink(missing_ok=True)
        raise RuntimeError(f"llama.cpp cannot write {target}")
    part.rename(target)
