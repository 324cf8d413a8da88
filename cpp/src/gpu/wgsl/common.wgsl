// What every kernel begins with. Buffers are words: a float in the arena is the bits of one. The kernel
// declares Params.
//
// rows: [0] the pass's rows, [1] the first that has an output, [2] slots of a piece of a ring, [3] pieces;
//       then tables, whose places Params gives.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> vectors: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> arena: array<u32>;
@group(0) @binding(5) var<storage, read_write> cells: array<u32>;

const NONE = 0xffffffffu;
const NEVER = -3.0e38;  // below every score

fn number(at: u32) -> f32 { return bitcast<f32>(arena[at]); }
fn set_number(at: u32, value: f32) { arena[at] = bitcast<u32>(value); }

// The first row that a dispatch computes: of all, or of those with an output.
fn first_row(kept: u32) -> u32 { return select(0u, rows[1], kept != 0u); }

fn signed_bytes(word: u32) -> vec4<f32> {
    let bits = bitcast<i32>(word);
    return vec4<f32>(f32(extractBits(bits, 0u, 8u)), f32(extractBits(bits, 8u, 8u)),
                     f32(extractBits(bits, 16u, 8u)), f32(extractBits(bits, 24u, 8u)));
}
fn packed_bytes(v: vec4<i32>) -> u32 {
    return (u32(v.x) & 0xffu) | ((u32(v.y) & 0xffu) << 8u) | ((u32(v.z) & 0xffu) << 16u) | (u32(v.w) << 24u);
}
fn two_bf16(word: u32) -> vec2<f32> {
    return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}
// Four 16-bit numbers of a quarter of 32 bytes that begin at `at`: rows 4q … 4q + 3 of a tile.
fn half_words(at: u32, q: u32) -> vec2<u32> {
    let line = weights[at + (q >> 1u)];
    return select(line.xy, line.zw, (q & 1u) == 1u);
}
