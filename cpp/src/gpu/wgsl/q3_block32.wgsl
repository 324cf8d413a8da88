const LEVELS = array<i32, 16>(-31, -18, -10, -4, 2, 8, 15, 25, -31, -18, -10, -4, 2, 8, 15, 25);

fn line(tile: u32, g: u32, j: u32, q: u32) -> Line {
    let at = tile + p.codes + 12u * g + q;
    let third = weights[at + 8u];
    let two = vec4<u32>(0x03030303u);
    let one = vec4<u32>(0x01010101u);
    let low = ((weights[at] >> vec4<u32>(2u * j)) & two) | (((third >> vec4<u32>(j)) & one) << vec4<u32>(2u));
    let high = ((weights[at + 4u] >> vec4<u32>(2u * j)) & two) |
               (((third >> vec4<u32>(4u + j)) & one) << vec4<u32>(2u));
    return look_up4(low | (high << vec4<u32>(4u)));
}
