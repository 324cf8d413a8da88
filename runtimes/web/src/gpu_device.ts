// WebGPU for the engine: what cpp/src/gpu/browser_device.cpp calls. The engine waits for the GPU by JavaScript's promise integration,
// which puts its stack aside.

/** Of WebAssembly, where it has promise integration. */
interface PromiseIntegration {
    Suspending: new (wait: (...args: number[]) => Promise<void>) => () => void;
    promising(exported: unknown): (...args: (number | bigint)[]) => Promise<number>;
}

const integration = WebAssembly as unknown as Partial<PromiseIntegration>;

/** The engine's functions on a device, for the module. */
export type GpuImports = Record<string, unknown>;

/** An exported function whose promise resolves when it returns, the GPU awaited. */
export const promising = (exported: unknown) => integration.promising!(exported);

type Thing = GPUBuffer | GPUComputePipeline | GPUBindGroup;

const BINDINGS: GPUBufferBindingType[] = ["uniform", "read-only-storage", "read-only-storage", "read-only-storage", "storage", "storage"];
const READ_BYTES = 16 << 20; // at a time

/** The page's GPU, or why there is none that the engine can use. */
export async function openGpu(memory: WebAssembly.Memory): Promise<GpuImports | string> {
    if (!integration.Suspending) return "this browser's WebAssembly cannot wait for promises (Chrome 137 or later can)";
    const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
    if (!adapter) return "this browser has no WebGPU, or no adapter for it";
    const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupsPerDimension } = adapter.limits;
    const requiredLimits = { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupsPerDimension };
    try {
        return imports(await adapter.requestDevice({ requiredLimits }), adapter, memory);
    } catch (error) {
        return `the graphics processor cannot be opened: ${String(error)}`;
    }
}

function imports(device: GPUDevice, { info }: GPUAdapter, memory: WebAssembly.Memory): GpuImports {
    const { Suspending } = integration as PromiseIntegration;
    const things = new Map<number, Thing>();
    let last = 0;
    let failure = "";
    const report = (what: string) => void (failure ||= what);
    device.onuncapturederror = ({ error }) => report(`the graphics processor refused: ${error.message}`);
    void device.lost.then(({ message }) => report(`the graphics processor was lost: ${message}`));

    const bytes = (at: number, size: number) => new Uint8Array(memory.buffer, at >>> 0, size);
    const words = (at: number, count: number) => new Uint32Array(memory.buffer, at >>> 0, count);
    const text = (at: number, size: number) => new TextDecoder().decode(bytes(at, size).slice());
    // As a C string, cut to what there is room for.
    const put = (what: string, at: number, capacity: number) => bytes(at, capacity).set([...new TextEncoder().encode(what).subarray(0, capacity - 1), 0]);
    const buffer = (number: number) => things.get(number) as GPUBuffer;
    function keep(make: () => Thing): number {
        try {
            things.set(++last, make());
            return last;
        } catch (error) {
            report(`the graphics processor refused: ${String(error)}`);
            return 0;
        }
    }

    const staging = device.createBuffer({ size: READ_BYTES, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const layout = device.createBindGroupLayout({
        entries: BINDINGS.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type, hasDynamicOffset: binding === 0 } })),
    });
    const pipelines = device.createPipelineLayout({ bindGroupLayouts: [layout] });

    return {
        describe(limits: number, name: number, capacity: number) {
            const { maxStorageBufferBindingSize, maxBufferSize, maxComputeWorkgroupsPerDimension } = device.limits;
            const size = Math.min(maxStorageBufferBindingSize, maxBufferSize);
            new Float64Array(memory.buffer, limits >>> 0, 2).set([size - (size % 256), maxComputeWorkgroupsPerDimension]);
            put([info.vendor, info.architecture, info.description].filter(Boolean).join(" "), name, capacity);
            return 1;
        },
        buffer: (params: number, size: number) =>
            keep(() => device.createBuffer({ size, usage: (params ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE) | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC })),
        kernel: (name: number, nameSize: number, source: number, sourceSize: number) =>
            keep(() => {
                const label = text(name, nameSize);
                const module = device.createShaderModule({ label, code: text(source, sourceSize) });
                return device.createComputePipeline({ label, layout: pipelines, compute: { module, entryPoint: "main" } });
            }),
        bindings: (buffers: number, paramsBytes: number) =>
            keep(() => {
                const entries = Array.from(words(buffers, BINDINGS.length), (number, binding) => ({
                    binding,
                    resource: { buffer: buffer(number), size: binding === 0 ? paramsBytes : buffer(number).size },
                }));
                return device.createBindGroup({ layout, entries });
            }),
        free(number: number) {
            const thing = things.get(number);
            if (thing && "destroy" in thing) thing.destroy();
            things.delete(number);
        },
        write: (to: number, offset: number, at: number, size: number) => device.queue.writeBuffer(buffer(to), offset, bytes(at, size)),
        copy(from: number, to: number, size: number) {
            const encoder = device.createCommandEncoder();
            encoder.copyBufferToBuffer(buffer(from), 0, buffer(to), 0, size);
            device.queue.submit([encoder.finish()]);
        },
        run(dispatches: number, count: number) {
            const encoder = device.createCommandEncoder();
            const pass = encoder.beginComputePass();
            const numbers = words(dispatches, 6 * count);
            for (let i = 0; i < numbers.length; i += 6) {
                const [kernel, bindings, params, x, y, z] = numbers.subarray(i, i + 6) as unknown as [number, number, number, number, number, number];
                pass.setPipeline(things.get(kernel) as GPUComputePipeline);
                pass.setBindGroup(0, things.get(bindings) as GPUBindGroup, [params]);
                pass.dispatchWorkgroups(x, y, z);
            }
            pass.end();
            device.queue.submit([encoder.finish()]);
        },
        failure(message: number, capacity: number) {
            if (!failure) return 0;
            put(failure, message, capacity);
            failure = "";
            return 1;
        },
        read: new Suspending(async (from, offset, at, size) => {
            try {
                for (let done = 0; done < size!; ) {
                    const piece = Math.min(READ_BYTES, size! - done);
                    const encoder = device.createCommandEncoder();
                    encoder.copyBufferToBuffer(buffer(from!), offset! + done, staging, 0, piece);
                    device.queue.submit([encoder.finish()]);
                    await staging.mapAsync(GPUMapMode.READ, 0, piece);
                    bytes(at! + done, piece).set(new Uint8Array(staging.getMappedRange(0, piece)));
                    staging.unmap();
                    done += piece;
                }
            } catch (error) {
                report(`the graphics processor's results cannot be read: ${String(error)}`);
            }
        }),
        settle: new Suspending(() => device.queue.onSubmittedWorkDone()),
    };
}
