fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    let at = tile + p.codes + 24u * g + q;
    let nibbles = weights[at + 4u * j];
    let four = vec4<u32>(0x0f0f0f0fu);
    let two = vec4<u32>(0x03030303u);
    return Line(minus_zero((nibbles & four) |
                           (((weights[at + 16u] >> vec4<u32>(2u * j)) & two) << vec4<u32>(4u))),
                minus_zero(((nibbles >> vec4<u32>(4u)) & four) |
                           (((weights[at + 20u] >> vec4<u32>(2u * j)) & two) << vec4<u32>(4u))));
}
// Bytes minus 32, none of which borrows from its neighbour.
fn minus_zero(codes: vec4<u32>) -> vec4<u32> {
    return ((codes | vec4<u32>(0x80808080u)) - vec4<u32>(0x20202020u)) ^ vec4<u32>(0x80808080u);
}
