"""How fast the GPU backend is here, in at most five minutes: a copy, each layout's matvec, tokens a second.

    pip install -e .[gpu] && python tools/gpu_bench.py [MODEL.edge …] [--seconds 2]

Kernels run as the engine runs them, from cpp/src/gpu/wgsl, over matrices of random bytes. Models are compared
with the processor: the same text, tokens a second of prompt and of decoding, and the bytes of weights that
decoding reads in a second. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wgpu

from edgekit import Model

WGSL = Path(__file__).resolve().parent.parent / "cpp/src/gpu/wgsl"
ROWS, COLUMNS = 16384, 4096
NONE = 0xFFFFFFFF
# layout -> its files, bytes of a tile before the codes and in all, for G groups of 32 columns
LAYOUTS: dict[str, tuple[list[str], Callable[[int], int], Callable[[int], int]]] = {
    "f16": (["dense", "f16"], lambda g: 0, lambda g: 1024 * g),
    "q8_block32": (["block", "no_table", "no_minimum", "q8_block32"], lambda g: 32 * g, lambda g: 544 * g),
    "q6_block32": (
        ["block", "no_table", "row_scales", "no_minimum", "q6_block32"],
        lambda g: 64 + 16 * g,
        lambda g: 64 + 400 * g,
    ),
    "q4_block32": (
        ["block", "codebook", "row_scales", "no_minimum", "q4_block32"],
        lambda g: 64 + 16 * g,
        lambda g: 64 + 272 * g,
    ),
    "q3_block32": (
        ["block", "codebook", "row_scales", "no_minimum", "q3_block32"],
        lambda g: 64 + 16 * g,
        lambda g: 64 + 208 * g,
    ),
}


def median_seconds(run: Callable[[], None], budget: float) -> float:
    """Of one run; the first is not counted."""
    run()
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


class Bench:
    def __init__(self) -> None:
        adapter = wgpu.gpu.request_adapter_sync(power_preference="high-performance")
        self.name = adapter.info["device"]
        limits = {key: adapter.limits[key] for key in ("max-storage-buffer-binding-size", "max-buffer-size")}
        self.device = adapter.request_device_sync(required_limits=limits)

    def buffer(self, size: int, usage: int = 0) -> wgpu.GPUBuffer:
        usage |= wgpu.BufferUsage.STORAGE | wgpu.BufferUsage.COPY_DST | wgpu.BufferUsage.COPY_SRC
        return self.device.create_buffer(size=size, usage=usage)

    def wait(self, buffer: wgpu.GPUBuffer) -> None:
        self.device.queue.read_buffer(buffer, 0, 4)

    def copy(self, size: int, budget: float) -> float:
        """GB/s, read and written."""
        source, to = self.buffer(size), self.buffer(size)

        def run() -> None:
            encoder = self.device.create_command_encoder()
            for _ in range(8):
                encoder.copy_buffer_to_buffer(source, 0, to, 0, size)
            self.device.queue.submit([encoder.finish()])
            self.wait(to)

        return 8 * 2 * size / median_seconds(run, budget) / 1e9

    def matvec(self, layout: str, budget: float) -> float:
        """GB/s of weights."""
        files, codes, tile = LAYOUTS[layout]
        groups = COLUMNS // 32
        source = "const ROWS = 1u;\n" + "\n".join(
            (WGSL / f"{name}.wgsl").read_text() for name in ["common", *files, "matvec"]
        )
        module = self.device.create_shader_module(code=source)
        kinds = ["uniform", *["read-only-storage"] * 3, *["storage"] * 2]
        layout_of = self.device.create_bind_group_layout(
            entries=[
                {"binding": i, "visibility": wgpu.ShaderStage.COMPUTE, "buffer": {"type": kind}}
                for i, kind in enumerate(kinds)
            ]
        )
        pipeline = self.device.create_compute_pipeline(
            layout=self.device.create_pipeline_layout(bind_group_layouts=[layout_of]),
            compute={"module": module, "entry_point": "main"},
        )
        size = ROWS // 16 * tile(groups)
        weights = self.buffer(size)
        piece = np.random.default_rng(0).integers(0, 256, 1 << 22, dtype=np.uint8)
        for at in range(0, size, len(piece)):
            self.device.queue.write_buffer(weights, at, piece[: min(len(piece), size - at)])
        x, out = 64, 64 + 10 * groups + COLUMNS
        segment = struct.pack("<8I", 0, ROWS // 16, 0, ROWS, out, ROWS, NONE, 0)
        tail = struct.pack(
            "<9I2f",
            *(groups, codes(groups) // 16, tile(groups) // 16, COLUMNS, x, x + 10 * groups, 0, 0, 0),
            *(1.0, 0.0),
        )
        params = self.buffer(256, wgpu.BufferUsage.UNIFORM)
        self.device.queue.write_buffer(params, 0, segment * 3 + tail)
        rows = self.buffer(64)
        self.device.queue.write_buffer(rows, 0, struct.pack("<4I", 1, 0, 512, 1))
        arena = self.buffer(4 * (out + ROWS))
        buffers = [params, rows, self.buffer(64), weights, arena, self.buffer(64)]
        bindings = self.device.create_bind_group(
            layout=layout_of,
            entries=[
                {"binding": i, "resource": {"buffer": b, "offset": 0, "size": b.size}}
                for i, b in enumerate(buffers)
            ],
        )

        def run() -> None:
            encoder = self.device.create_command_encoder()
            encoding = encoder.begin_compute_pass()
            encoding.set_pipeline(pipeline)
            encoding.set_bind_group(0, bindings)
            for _ in range(8):
                encoding.dispatch_workgroups(ROWS // 16)
            encoding.end()
            self.device.queue.submit([encoder.finish()])
            self.wait(arena)

        return 8 * size / median_seconds(run, budget) / 1e9


def tokens_a_second(path: Path, backend: str, tokens: int) -> dict[str, float | str]:
    model = Model(path, backend=backend)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, 128).tolist()
    session = model.session(window=1024)
    session.forward(ids[:8], all_logits=False)  # what is compiled at the first use
    session.reset()
    start = time.perf_counter()
    session.forward(ids, all_logits=False)
    prompt = time.perf_counter() - start
    session.reset()
    start = time.perf_counter()
    events = list(session.generate(ids[:8], max_tokens=tokens, temperature=0, ignore_eos=True, speculation=0))
    decode = time.perf_counter() - start
    return {
        "prompt tokens/s": len(ids) / prompt,
        "tokens/s": tokens / decode,
        "GB/s": tokens * model.weight_bytes / decode / 1e9,
        "text": "".join(event.text for event in events),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, help=".edge files to run on both backends")
    parser.add_argument("--seconds", type=float, default=2, help="for each kernel")
    parser.add_argument("--tokens", type=int, default=32, help="to decode")
    arguments = parser.parse_args()
    bench = Bench()
    copy = bench.copy(1 << 27, arguments.seconds)
    result: dict[str, object] = {"adapter": bench.name, "copy GB/s": copy}
    print(f"{bench.name}: a copy {copy:.1f} GB/s")
    kernels: dict[str, float] = {}
    for layout in LAYOUTS:
        kernels[layout] = bench.matvec(layout, arguments.seconds)
        print(f"  matvec {layout:<12} {kernels[layout]:8.1f} GB/s  {kernels[layout] / copy:5.0%} of the copy")
    models: dict[str, dict[str, dict[str, float | str]]] = {}
    for path in arguments.models:
        sides = {backend: tokens_a_second(path, backend, arguments.tokens) for backend in ("gpu", "cpu")}
        models[path.name] = sides
        for backend, side in sides.items():
            print(
                f"  {path.name} {backend}: prompt {side['prompt tokens/s']:.1f} tokens/s, "
                f"decoding {side['tokens/s']:.1f} tokens/s, {side['GB/s']:.2f} GB/s"
            )
        same = sides["gpu"].pop("text") == sides["cpu"].pop("text")
        print(f"  the same text: {'yes' if same else 'no'}")
    print(json.dumps(result | {"matvec GB/s": kernels, "models": models}))


if __name__ == "__main__":
    main()
