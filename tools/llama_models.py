"""Models in llama.cpp's own formats, made by llama.cpp's own code. Needs llama-cpp-python."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from edgekit.in_place_of import in_place_of

FILE_TYPES = {
    name: getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    for name in ("Q3_K_M", "IQ4_XS", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0")
}
Importance = Mapping[str, NDArray[np.float32]]
_silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
llama_cpp.llama_log_set(_silence, None)


def quantize(source: Path, target: Path, file_type: str, importance: Importance | None = None) -> None:
    """`source`, a GGUF file of wide numbers, as one of `FILE_TYPES`; `importance` is llama.cpp's matrix."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[file_type]
    if importance is not None:
        rows = [(name.encode(), _floats(values), values.size) for name, values in importance.items()]
        end = llama_cpp.llama_model_imatrix_data()
        entries = [llama_cpp.llama_model_imatrix_data(*row) for row in rows]
        parameters.imatrix = (llama_cpp.llama_model_imatrix_data * (len(rows) + 1))(*entries, end)
    with in_place_of(target) as part:
        if llama_cpp.llama_model_quantize(str(source).encode(), str(part).encode(), parameters):
            raise RuntimeError(f"llama.cpp cannot write {target}")


def importance(source: Path, pieces: Sequence[Sequence[int]], threads: int) -> Importance:
    """What llama.cpp's own tool collects: of the input of each matrix of a layer the mean of the squares, by
    column, over pieces of a text that are at most a batch long.
    """
    sums: dict[str, NDArray[np.float64]] = {}

    @llama_cpp.ggml_backend_sched_eval_callback
    def see(address: int, ask: bool, data: Any) -> bool:
        product = _Tensor.from_address(address)
        matrix, given = product.src[0], product.src[1]
        if not matrix or not given:
            return False
        name = matrix.contents.name.decode()
        if not (name.startswith("blk.") and name.endswith(".weight")) or given.contents.type != 0:
            return False
        if not ask:
            width, count = given.contents.ne[0], given.contents.ne[1]
            values = np.ctypeslib.as_array(
                ctypes.cast(given.contents.data, ctypes.POINTER(ctypes.c_float)), (count, width)
            )
            sums[name] = sums.get(name, 0) + np.square(values, dtype=np.float64).sum(0)
        return True

    model = llama_cpp.llama_model_load_from_file(str(source).encode(), llama_cpp.llama_model_default_params())
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = max(map(len, pieces))
    options.n_threads = options.n_threads_batch = threads
    options.cb_eval = see
    context = llama_cpp.llama_init_from_model(model, options)
    try:
        for ids in pieces:
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
            batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
            batch.n_tokens = len(ids)
            for i, id in enumerate(ids):  # the last layer computes what logits are wanted of, and no more
                batch.token[i], batch.pos[i], batch.logits[i] = id, i, 1
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            if status := llama_cpp.llama_decode(context, batch):
                raise RuntimeError(f"llama_decode returned {status}")
            llama_cpp.llama_batch_free(batch)
    finally:
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    count = sum(map(len, pieces))
    return {name: (total / count).astype(np.float32) for name, total in sums.items()}


def _floats(values: NDArray[np.float32]) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


class _Tensor(ctypes.Structure):
    """`ggml_tensor` (ggml.h), which the Python bindings leave opaque."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]
