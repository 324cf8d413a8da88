fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    let at = tile + p.codes + 20u * g + q;
    let nibbles = weights[at + 4u * j];
    let fifth = weights[at + 16u];
    let four = vec4<u32>(0x0f0f0f0fu);
    let one = vec4<u32>(0x01010101u);
    return Line(minus_zero((nibbles & four) | (((fifth >> vec4<u32>(j)) & one) << vec4<u32>(4u))),
                minus_zero(((nibbles >> vec4<u32>(4u)) & four) |
                           (((fifth >> vec4<u32>(4u + j)) & one) << vec4<u32>(4u))));
}
// Bytes minus 16, none of which borrows from its neighbour.
fn minus_zero(codes: vec4<u32>) -> vec4<u32> {
    return ((codes | vec4<u32>(0x80808080u)) - vec4<u32>(0x10101010u)) ^ vec4<u32>(0x80808080u);
}
