// What cpp/src/gpu/browser_device.cpp calls: functions that src/gpu_device.ts makes, as they are, since those that wait are no plain
// functions. Where a module is made without them it has no GPU.
addToLibrary(
    Object.fromEntries(
        ["describe", "buffer", "kernel", "bindings", "free", "write", "copy", "run", "failure", "read", "settle"].map((name) => [
            `edgekit_gpu_${name}`,
            `=Module["gpu"]?.${name} ?? (() => 0)`,
        ]),
    ),
);
