// What attention reads of cells that are codes. Queries become codes too.

const GROUPS = (HEAD_DIM + 31u) / 32u;
var<workgroup> query_codes: array<u32, 16u * GROUPS>;  // from the middle on as the sinks see them
var<workgroup> query_scales: array<f32, 2u * GROUPS>;

fn prepare_query(lane: u32) {
    for (var unit = lane; unit < 2u * groups(); unit += LANES) {
        let sink = unit / groups();
        let g = unit % groups();
        var peak = 0.0;
        for (var d = 32u * g; d < min(32u * g + 32u, p.head_dim); d += 1u) {
            peak = max(peak, abs(query[HEAD_DIM * sink + d]));
        }
        let inverse = select(0.0, 127.0 / peak, peak > 1e-30);
        for (var j = 0u; j < 8u; j += 1u) {
            var v = vec4<f32>(0.0);
            for (var b = 0u; b < 4u; b += 1u) {
                let d = 32u * g + 4u * j + b;
                if (d < p.head_dim) { v[b] = query[HEAD_DIM * sink + d] * inverse; }
            }
            query_codes[8u * (GROUPS * sink + g) + j] =
                packed_bytes(vec4<i32>(round(clamp(v, vec4<f32>(-127.0), vec4<f32>(127.0)))));
        }
        query_scales[GROUPS * sink + g] = peak / 127.0;
    }
    workgroupBarrier();
}
fn scale_of(tile: u32, g: u32, slot: u32) -> f32 {
    return two_bf16(cells[tile + 8u * g + slot % 16u / 2u])[slot & 1u];
}
fn score(keys: u32, slot: u32, q: u32) -> f32 {
    let tile = keys + slot / 16u * key_tile();
    let query_group = GROUPS * (q / HEAD_DIM);
    var sum = 0.0;
    for (var g = 0u; g < groups(); g += 1u) {
        var products = 0;
        for (var j = 0u; j < 8u; j += 1u) {
            products += dot4I8Packed(cells[tile + codes_place() + 128u * g + 16u * j + slot % 16u],
                                     query_codes[8u * (query_group + g) + j]);
        }
        sum += f32(products) * (scale_of(tile, g, slot) * query_scales[query_group + g]);
    }
    return sum;
}
fn two_values(values: u32, slot: u32, pair: u32) -> vec2<f32> {
    let tile = values + slot / 16u * value_tile();
    let four = signed_bytes(cells[tile + codes_place() + slot % 16u * value_row() + pair / 2u]);
    return select(four.xy, four.zw, (pair & 1u) == 1u) * scale_of(tile, pair / 16u, slot);
}
