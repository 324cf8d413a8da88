fn row_scale(tile: u32, q: u32) -> vec4<f32> { return vec4<f32>(1.0); }
fn group_scale(tile: u32, g: u32, q: u32) -> vec4<f32> {
    let words = half_words(tile + 2u * g, q);
    return vec4<f32>(two_bf16(words.x), two_bf16(words.y));
}
fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    let at = tile + p.codes + 32u * g + 4u * j + q;
    return Line(weights[at], weights[at + 16u]);
}
