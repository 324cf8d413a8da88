// Four neighbouring numbers of each lane, columns c … c + 3, as matvec reads them: as floats, unless
// their place is NONE, and as codes of blocks of 32 with their scales. All lanes take part.

var<workgroup> peaks: array<f32, LANES>;

fn store_row(v: vec4<f32>, c: u32, width: u32, lane: u32, floats: u32, codes: u32) {
    let groups = (width + 31u) / 32u;
    if (floats != NONE) {
        for (var b = 0u; b < 4u; b += 1u) {
            if (c + b < width) { set_number(floats + c + b, v[b]); }
        }
    }
    let magnitudes = max(abs(v.xy), abs(v.zw));
    peaks[lane] = max(magnitudes.x, magnitudes.y);
    workgroupBarrier();
    var peak = 0.0;
    for (var i = lane & ~7u; i < (lane & ~7u) + 8u; i += 1u) { peak = max(peak, peaks[i]); }
    workgroupBarrier();
    let inverse = select(0.0, 127.0 / peak, peak > 1e-30);
    let code = vec4<i32>(round(clamp(v * inverse, vec4<f32>(-127.0), vec4<f32>(127.0))));
    peaks[lane] = f32(code.x + code.y + code.z + code.w);
    workgroupBarrier();
    let g = c / 32u;
    if (g < groups && codes != NONE) {
        arena[codes + c / 4u] = packed_bytes(code);
        if ((lane & 7u) == 0u) {
            var sum = 0.0;
            for (var i = lane; i < lane + 8u; i += 1u) { sum += peaks[i]; }
            set_number(codes + 8u * groups + g, peak / 127.0);
            set_number(codes + 9u * groups + g, peak / 127.0 * sum);
        }
    }
    workgroupBarrier();
}
