const HAS_MINIMUM = true;

fn row_scale(tile: u32, q: u32) -> vec4<f32> { return bitcast<vec4<f32>>(weights[tile + q]); }
fn four_halves(words: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
fn group_scale(tile: u32, g: u32, q: u32) -> vec4<f32> {
    return four_halves(half_words(tile + 4u + 2u * g, q));
}
fn minimum(tile: u32, g: u32, q: u32) -> vec4<f32> {
    return four_halves(half_words(tile + 4u + 2u * p.groups + 2u * g, q));
}
fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    let nibbles = weights[tile + p.codes + 16u * g + 4u * j + q];
    let four = vec4<u32>(0x0f0f0f0fu);
    return Line(nibbles & four, (nibbles >> vec4<u32>(4u)) & four);
}
