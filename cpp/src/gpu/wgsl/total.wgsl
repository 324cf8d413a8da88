// A sum over the LANES lanes of a workgroup, the same for each.

var<workgroup> partial: array<f32, LANES>;

fn total(x: f32, lane: u32) -> f32 {
    partial[lane] = x;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (lane < half) { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier();
    return sum;
}
